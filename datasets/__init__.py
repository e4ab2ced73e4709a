"""Image sources. One file per kind of source; a dataset is a YAML in conf/dataset."""
