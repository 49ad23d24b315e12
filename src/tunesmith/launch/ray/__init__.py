"""A trainer on a Ray cluster.

The worker starts a child process (`__main__`), which alone is connected to Ray: it has an actor (`node`) start the
trainer on some node, and hands on what the trainer writes. For the worker it is the trainer.
"""
