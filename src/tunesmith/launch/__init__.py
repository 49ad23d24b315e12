"""Starting and stopping a trainer, wherever it runs."""
