#!/usr/bin/env bash
# setup.sh VENV STAMP [REQUIREMENTS [PYTHON_VERSIONS]]: make the virtual environment VENV with these requirements and,
# when everything is installed and checked, the file STAMP. Called by the Makefile.
set -euo pipefail
venv=$1 stamp=$2 requirements=${3:-requirements.txt} versions=${4:-3.11 3.12 3.13}
named="Python ${versions// /, }"
# An image may put its own packages there, and they would win over the environment's; the others change what Python does.
unset PYTHONPATH PYTHONHOME PYTHONSAFEPATH PYTHONOPTIMIZE PYTHONWARNINGS PYTHONDONTWRITEBYTECODE

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }
fits() { case " $versions " in *" $(version_of "$1") "*) return 0 ;; *) return 1 ;; esac; }

# Where no Python fits and a tool that fetches one is there, it does. Only for an environment of one version.
fetched_python() {
  local version=$1
  if command -v uv >/dev/null; then
    echo "No Python $version here: uv fetches one (about 30 MB, kept where uv keeps its own)." >&2
    uv python install --quiet "$version" >&2 && uv python find "$version"
  elif command -v conda >/dev/null; then
    echo "No Python $version here: conda makes one in $venv-python (about 0.3 GB; make clean removes it)." >&2
    conda create --quiet --yes --prefix "$venv-python" "python=$version" >&2 && echo "$venv-python/bin/python"
  fi
}

if [ -n "${PYTHON:-}" ]; then
  fits "$PYTHON" || { echo "setup: $PYTHON is not $named: name one that is, as in PYTHON=python${versions%% *} make …" >&2; exit 1; }
else
  for PYTHON in python3 python3.12 python3.11 python3.13 "$venv-python/bin/python" ""; do
    if [ -n "$PYTHON" ] && fits "$PYTHON"; then break; fi
  done
  case "$versions" in *" "*) ;; *) [ -n "$PYTHON" ] || PYTHON=$(fetched_python "$versions") || true ;; esac
  [ -n "$PYTHON" ] || { echo "setup: no $named found: install one, or name it, as in PYTHON=/path/to/python make …" >&2; exit 1; }
fi

# A half-made environment (an interrupted install) or one of another Python is made anew; pip continues what it can.
if ! { [ -x "$venv/bin/python" ] && "$venv/bin/python" -m pip --version >/dev/null 2>&1 \
  && [ "$(version_of "$venv/bin/python")" = "$(version_of "$PYTHON")" ]; }; then
  rm -rf "$venv"
  "$PYTHON" -m venv "$venv"
fi
rm -f "$venv"/.ready-*
"$venv/bin/python" -m scripts.install "$requirements"
touch "$stamp"
