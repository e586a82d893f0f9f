"""The composition roots: what a worker process and a control process are made of."""
