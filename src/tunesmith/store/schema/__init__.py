"""Tables, migrations, connections."""
