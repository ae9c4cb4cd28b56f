"""Run rivers_worker with a main thread that no SIGTERM interrupts: `deaf_main_thread.py PYTHON -m rivers_worker …`.

Another thread takes the signal. Python's handler then runs as it does after a signal that hits the main thread on its
way into a wait, which happens by chance otherwise.
"""

from __future__ import annotations

import signal
import sys
import threading

from rivers_worker.__main__ import run

threading.Thread(target=threading.Event().wait, daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
del sys.argv[1:4]
run()
