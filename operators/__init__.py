"""Forward operators A. One file per family; an operator is a YAML in conf/task."""
