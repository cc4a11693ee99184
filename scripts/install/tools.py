"""pip, and uv, which installs the same in a fifth of the time. uv is given the settings that pip has."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from itertools import takewhile
from pathlib import Path

from scripts.install.pins import SetupError, has

UV = "uv==0.13.9"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
CONFLICT = "The conflict is caused by:"
# They send packages elsewhere, or change what is installed.
MISLEADING = ["PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON", "PIP_NO_DEPS", "PIP_DRY_RUN"]
MISLEADING += ["PIP_IGNORE_INSTALLED"]
# uv has settings of its own, in files too, with the same effects; those of the network and its cache are followed.
UVS_OWN = re.compile(
    r"UV_(?!CACHE|HTTP|NATIVE_TLS|SYSTEM_CERTS|(DEFAULT_|EXTRA_)?INDEX|INSECURE|CONCURRENT|LINK_MODE|KEYRING)"
)
# pip's settings and uv's options for the same. What neither column knows (a client's certificate, …) is left to pip.
SAME = {"index-url": "--default-index", "extra-index-url": "--index", "find-links": "--find-links"}
SAME |= {"constraint": "--constraint", "trusted-host": "--allow-insecure-host"}
HARMLESS = {"cert", "timeout", "default-timeout", "disable-pip-version-check", "cache-dir", "progress-bar", "no-color"}
HARMLESS |= {
    "no-cache-dir",
    "retries",
    "quiet",
    "verbose",
    "no-input",
    "root-user-action",
    "require-virtualenv",
    "user",
}
HARMLESS |= {name[4:].lower().replace("_", "-") for name in MISLEADING}


def ignored_settings() -> list[str]:
    """The variables that are set and would send packages elsewhere, or change which."""
    return [name for name, value in os.environ.items() if value and (name in MISLEADING or UVS_OWN.match(name))]


def clean() -> dict[str, str]:
    """The process's environment without them."""
    ignored = ignored_settings()
    kept = {name: value for name, value in os.environ.items() if name not in ignored}
    return kept | {"PIP_USER": "0", "UV_NO_CONFIG": "1"}


def pip_arguments() -> list[str]:
    """$PIP_ARGS, split as a shell does."""
    try:
        return shlex.split(os.environ.get("PIP_ARGS", ""))
    except ValueError as error:
        raise SetupError(f"PIP_ARGS can't be split into arguments: {error}") from None


def pip(*arguments: str, capture: bool = False, cache: Path | None = None) -> str:
    """Run pip and return what it printed (if captured); a SetupError names the setting that may be at fault."""
    env = clean() | ({"PIP_CACHE_DIR": str(cache)} if cache else {})
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "pip.log"  # what --quiet keeps from the terminal, such as who wants which version
        # With a log, pip 23 draws its bar even with --quiet: into what is captured
        command = [*PIP, *(() if capture else ("--log", str(log))), *arguments]
        done = subprocess.run(command, env=env, text=True, stdout=subprocess.PIPE if capture else None)
        why = conflict(log.read_text(encoding="utf-8", errors="replace")) if done.returncode and log.exists() else ""
    if done.returncode:
        found = [name for name in suspects() if "(constraint)" not in why or re.search("(?i)constraint|PIP_ARGS", name)]
        hint = f"; if one of these settings is at fault, unset it: {', '.join(found)}" if found else ""
        raise SetupError(f"pip failed{why or ', see above'}{hint}. What was downloaded is kept: run it again to go on")
    return done.stdout or ""


def conflict(log: str) -> str:
    """What pip says of versions that exclude each other, such as a pin's and a constraint's; "" if that is not why."""
    lines = [re.sub(r"^\S+T[\d:,]+ ", "", line).strip() for line in log.splitlines()]
    if CONFLICT not in lines:
        return ""
    said = takewhile(bool, lines[lines.index(CONFLICT) + 1 :])
    wants = ", ".join(line.removeprefix("The user requested ") for line in said)
    return f", these can't be had together: {wants}"


def pip_settings() -> dict[str, str]:
    """pip's configuration for `pip install`: {setting: value}, from its files and from variables, which win."""
    said = subprocess.run([*PIP, "config", "list"], env=clean(), capture_output=True, text=True)
    if said.returncode:
        why = " ".join(said.stderr.split())
        raise SetupError(f"pip can't read its settings ({why}): fix that file, or unset PIP_CONFIG_FILE")
    found = re.findall(r"^(global|install|:env:)\.([\w-]+)='(.*)'$", said.stdout, re.MULTILINE)
    found.sort(key=lambda setting: ("global", "install", ":env:").index(setting[0]))
    return {name: value for _, name, value in found}


def suspects() -> list[str]:
    """pip's settings that may let an installation fail, variables first; a value may be a password and is not told."""
    told = []
    for name, value in pip_settings().items():
        variable = f"PIP_{name.upper().replace('-', '_')}"
        shown = variable if variable in os.environ else f"{name} in pip's configuration"
        if name not in HARMLESS:
            told.append(f"{shown} (constraints in {value})" if name == "constraint" else shown)
    return sorted(told, key=lambda shown: not shown.startswith("PIP_"))


def uv_arguments(settings: dict[str, str]) -> list[str] | None:
    """uv's options for pip's settings; None where one has no counterpart, and pip has to do it."""
    if set(settings) - set(SAME) - HARMLESS:
        return None
    options = [(SAME[name], part) for name, value in settings.items() if name in SAME for part in _parts(value)]
    # As pip does: of all indexes the best version
    return ["--index-strategy", "unsafe-best-match", *(text for option in options for text in option)]


def _parts(value: str) -> list[str]:
    """A setting of several values has them on lines or between spaces, as pip splits them."""
    return value.replace("\\n", " ").split()


class Installer:
    """Installs with uv where it can, else with pip. `own_cache`: a folder for downloads, deleted by `tidy()`."""

    def __init__(self, own_cache: Path | None):
        self.cache = own_cache
        self.uv = None if pip_arguments() else self._find_uv()

    def _find_uv(self) -> list[str] | None:
        """uv's command line with pip's settings; None where pip must be asked."""
        settings = pip_settings()
        options = uv_arguments(settings)
        if options is None:
            return None
        if not has("uv"):
            command = [*PIP, "install", "--quiet", "--no-deps", UV]
            if subprocess.run(command, env=clean(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
                return None  # an index without uv: pip says what it lacks besides
        self.certificates = {"SSL_CERT_FILE": settings["cert"]} if "cert" in settings else {}
        return [str(Path(sys.prefix) / "bin" / "uv"), "pip", "install", "--python", sys.executable, *options]

    def install(self, *arguments: str) -> None:
        """Install; where uv fails, pip tries and tells."""
        if self.uv and self._with_uv(*arguments):
            return
        options = ["--quiet", "--progress-bar", "on", "--no-compile", *pip_arguments()]
        pip("install", *options, *arguments, cache=self.cache)

    def _with_uv(self, *arguments: str) -> bool:
        env = clean() | self.certificates | ({"UV_CACHE_DIR": str(self.cache)} if self.cache else {})
        quiet = [] if sys.stderr.isatty() else ["--quiet"]  # its progress bars come with a list of all packages
        done = subprocess.run([*self.uv, *quiet, *arguments], env=env)
        if done.returncode:
            print("uv failed, see above; now pip tries.", flush=True)
        return done.returncode == 0

    def tidy(self) -> None:
        """Delete the downloads of this set-up; not called where it fails, so that the next try goes on from them."""
        if self.cache and self.cache.exists():
            shutil.rmtree(self.cache)
