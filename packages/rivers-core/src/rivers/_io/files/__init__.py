"""Values as files below a folder or in a bucket: how they are named, written, committed, checked and read."""
