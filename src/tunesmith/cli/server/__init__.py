"""Starting, finding and stopping the server of a command."""
