#!/usr/bin/env bash
# Checks that this machine can use mcp-devops from Claude Code. One line per check; no API key, no
# cluster: the server plays a recorded incident. Nothing of yours is changed: Claude Code runs in a
# temporary home.
#
#   ./verify.sh
#   MCP_DEVOPS=/path/to/mcp-devops CLAUDE=/path/to/claude ./verify.sh
set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
server=${MCP_DEVOPS:-mcp-devops}
client=${CLAUDE:-claude}
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
failed=0

ok() { printf 'ok    %s\n' "$1"; }
bad() {
  printf 'FAIL  %s\n' "$1"
  [ $# -lt 2 ] || printf '      %s\n' "$2"
  failed=1
}
finish() {
  if [ "$failed" -eq 0 ]; then echo "All checks passed."; else echo "Something needs a hand."; fi
  exit "$failed"
}
claude_here() {
  (cd "$folder" && HOME="$folder" CLAUDE_CONFIG_DIR="$folder/.claude" DISABLE_AUTOUPDATER=1 \
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 MCP_TIMEOUT=60000 "$client" "$@" 2>&1)
}
validate() {
  if said=$(claude_here plugin validate "$1" --strict); then
    ok "$2 is valid"
  else
    bad "$2 is not valid" "$(printf '%s' "$said" | tail -n 3 | tr '\n' ' ')"
  fi
}

server=$(command -v "$server") || {
  bad "mcp-devops is not on the PATH" "Install it, or set MCP_DEVOPS to its path."
  finish
}
case $server in /*) ;; *) server=$PWD/$server ;; esac
if version=$("$server" --version 2>/dev/null); then
  ok "mcp-devops $version"
else
  bad "mcp-devops --version fails" "Run it by hand to see why."
fi

hello='{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"verify","version":"1"}}}'
answer=$(printf '%s\n' "$hello" |
  "$server" serve --scenario error-spike --state-dir "$folder/state" 2>"$folder/server.log" | head -n 1)
case $answer in
*'"serverInfo"'*) ok "the server starts and answers" ;;
*) bad "the server does not answer" "$(tail -n 1 "$folder/server.log" 2>/dev/null)" ;;
esac

if command -v python3 >/dev/null; then
  guard="$here/marketplace/incident-response/hooks/guard.py"
  call='{"tool_name":"mcp__incident__incident_roll_back","tool_input":{"incident_id":"inc-00000000"}}'
  case $(printf '%s' "$call" | INCIDENT_GUARD=deny python3 "$guard") in
  *'"deny"'*) ok "the guard hook denies when told to" ;;
  *) bad "the guard hook does not deny" "Run hooks/guard.py by hand." ;;
  esac
else
  bad "python3 is missing" "The plugin's guard hook needs it."
fi

client=$(command -v "$client") || {
  bad "claude is not on the PATH" "Install Claude Code, or set CLAUDE to its path."
  finish
}
case $client in /*) ;; *) client=$PWD/$client ;; esac
ok "claude $(claude_here --version | head -n 1)"
claude_here mcp add incident -- \
  "$server" serve --scenario error-spike --state-dir "$folder/state" >/dev/null
listed=$(claude_here mcp list)
case $listed in # `mcp list` exits 0 even when every server fails
*incident:*Connected*) ok "claude mcp list: incident is connected" ;;
*) bad "claude mcp list: incident is not connected" "$(printf '%s' "$listed" | tail -n 1)" ;;
esac
validate "$here/marketplace/incident-response" "plugin incident-response"
validate "$here/marketplace" "marketplace incident-tools"
finish
