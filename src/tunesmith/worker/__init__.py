"""The worker: claim a job, check its files, train, relay reports, finish.

Several workers may run on one database. Each trains one job at a time and checks the files of others meanwhile.
`process` keeps one beside a server, and imports none of the rest.
"""
