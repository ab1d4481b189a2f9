"""`load_app`: imports the app that "module:app" names."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from .._core.failure import place_of, sentence_of
from ..app import H3App
from ..errors import AppNotFound

_MISSING = object()


def load_app(name: str) -> H3App:
    """Import the app that "module:app" names.

    Raises:
        AppNotFound: it does not exist, can't be imported, or is not an app; the text says which.
    """
    module_name, colon, app_name = name.partition(":")
    if not colon or not module_name or not app_name:
        raise AppNotFound(f"an app is named MODULE:APP, such as h3ref.examples.counter:app, not {name!r}")
    if module_name.endswith(".py") or not all(part.isidentifier() for part in module_name.split(".")):
        raise AppNotFound(f"{module_name} is not a module's name: write it as in an import, without .py or slashes")
    module = _import(module_name)
    found: Any = module
    for part in app_name.split("."):
        found = getattr(found, part, _MISSING)
    if isinstance(found, H3App):
        return found
    apps = [key for key, value in vars(module).items() if isinstance(value, H3App)]
    there = f"its apps are: {', '.join(apps)}" if apps else "it has no H3App"
    if found is _MISSING:
        raise AppNotFound(f"module {module_name} has no {app_name}; {there}")
    raise AppNotFound(f"{name} is not an H3App, but of type {type(found).__name__}; {there}")


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise AppNotFound(f"there is no module {error.name}, neither here in {Path.cwd()} nor installed") from error
        raise AppNotFound(f"importing {name} failed: {error} ({place_of(error)})") from error
    except ImportError as error:
        raise AppNotFound(f"importing {name} failed: {error} ({place_of(error)})") from error
    except (Exception, SystemExit) as error:
        raise AppNotFound(f"importing {name} raised {sentence_of(error)}") from error
