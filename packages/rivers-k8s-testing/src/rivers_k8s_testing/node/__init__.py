"""A node: a kubelet that starts pods as processes of this machine."""
