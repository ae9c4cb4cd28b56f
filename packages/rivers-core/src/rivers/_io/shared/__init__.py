"""The default store of a repository: values that the processes of this machine share."""
