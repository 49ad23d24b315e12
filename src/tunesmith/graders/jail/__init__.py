"""The jail that `python` graders run in: namespaces, Landlock, seccomp and limits."""
