"""IO handlers that cannot be created."""

from __future__ import annotations

from typing import Any

import rivers as rs


class Refuses(rs.BaseIOHandler):
    def model_post_init(self, context: Any) -> None:
        raise RuntimeError("not today")

    def handle_output(self, context: Any, obj: Any) -> None: ...

    def load_input(self, context: Any) -> Any: ...
