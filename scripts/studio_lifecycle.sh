#!/usr/bin/env bash
# A lifecycle configuration for SageMaker Studio's JupyterLab: when a space starts, the workshop is cloned into its home
# and set up, so that attendees open a notebook and run it. docs/studio.md tells how to attach it.
#
# Put the address of your clone here (SageMaker passes no arguments to the script):
repository=${WORKSHOP_REPOSITORY:-https://example.com/your/orpo-workshop.git}
folder=${WORKSHOP_FOLDER:-$HOME/orpo-workshop}
set -euo pipefail

# SageMaker stops a space whose script takes longer than five minutes: the work goes on in the background.
log=$HOME/orpo-workshop-setup.log
prepare() {
  [ -d "$folder/.git" ] || git clone --quiet "$repository" "$folder"
  cd "$folder"
  make setup # seconds where .venv is there from the last start: the home persists
  echo "Ready: open notebooks/00_preflight.ipynb."
}
if [ "${1:-}" = --wait ]; then
  prepare
else
  nohup bash "$0" --wait >"$log" 2>&1 </dev/null &
  echo "The workshop is being set up in $folder; see $log."
fi
