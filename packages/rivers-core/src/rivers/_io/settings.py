"""The base of resources and IO handlers: settings that leave the process's own variables alone."""

from __future__ import annotations

import warnings
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

__all__ = ["RESERVED_VARIABLES", "ResourceSettings"]

_POSIX = (
    "PATH HOME USER LOGNAME SHELL PWD OLDPWD TERM LANG LANGUAGE LC_ALL TZ TMPDIR MAIL EDITOR VISUAL PAGER PS1 SHLVL "
    "COLUMNS LINES CDPATH MANPATH PRINTER SUDO_USER DISPLAY BROWSER HOSTTYPE OSTYPE MACHTYPE"
)
# WSL sets NAME.
_WINDOWS = "USERNAME TMP TEMP OS COMPUTERNAME NAME"
# Containers, Cloud Run and Heroku, conda.
_PLATFORMS = "HOSTNAME HOST PORT PREFIX"
RESERVED_VARIABLES = frozenset(f"{_POSIX} {_WINDOWS} {_PLATFORMS}".split())
"""Variables that exist for other reasons: a field of that name without a prefix does not mean them."""


class ResourceSettings(BaseSettings):
    """Settings from arguments or the environment.

    A field reads the variable of its name. Without an `env_prefix` or an alias it does not read one of
    `RESERVED_VARIABLES`: a field `path` with a default would take the program search path instead.
    """

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return pydantic-settings' own sources in their own order, with reserved variables left out."""
        if isinstance(env_settings, EnvSettingsSource) and not env_settings.env_prefix:
            env_settings = _UnreservedSource(env_settings)
        return init_settings, env_settings, dotenv_settings, file_secret_settings


class _UnreservedSource(EnvSettingsSource):
    """The environment without the reserved variables."""

    def __init__(self, source: EnvSettingsSource) -> None:
        # Its arguments may come from the constructor (`_env_nested_delimiter=…`) and differ between versions.
        vars(self).update(vars(source))

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value of a field's variable, or None for a reserved one."""
        variable = field_name if self.case_sensitive else field_name.upper()
        if variable not in RESERVED_VARIABLES or field.validation_alias is not None:
            return super().get_field_value(field, field_name)
        name = self.settings_cls.__name__
        if field.is_required() and field_name not in self.current_state and self._is_set(field_name):
            warnings.warn(
                f"{name}.{field_name} is not read from ${variable}, which exists for other reasons; give {name} an "
                f"env_prefix, as in model_config = SettingsConfigDict(env_prefix='{name.upper()}_'), or pass "
                f"{field_name}=…",
                UserWarning,
                stacklevel=2,
            )
        return None, field_name, False

    def _is_set(self, field_name: str) -> bool:
        return (field_name if self.case_sensitive else field_name.lower()) in self.env_vars
