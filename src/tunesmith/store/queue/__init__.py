"""Jobs: the queue, its leases, and the events of each job."""
