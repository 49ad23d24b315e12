"""The machine: durable writes, memory, processors."""
