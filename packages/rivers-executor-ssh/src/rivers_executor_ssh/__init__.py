"""An executor for rivers whose workers run on hosts that are reached by OpenSSH.

rs.Job("nightly", assets=[...], executor=SshExecutor(hosts=["node1", "me@node2:2222"]))
"""

from rivers_executor_ssh.backend import SshBackend
from rivers_executor_ssh.executor import SshExecutor, SshHost

__all__ = ["SshBackend", "SshExecutor", "SshHost"]
