# install.sh POLICY PACKAGE...: installs Debian packages; none of them starts a daemon.
#
# While POLICY exists and says 101, no package starts one (Debian policy 9.3.3, invoke-rc.d). Left behind, it would
# forbid the machine's own daemons too, so it goes however this ends: a shell still tidies up after Ctrl-C. A policy
# of the machine's owner is left alone.
set -eu
policy=$1
shift
mark="# Made by cargo xtask setup, for as long as it installs."
# kill -9 during an earlier installation left it.
if [ -e "$policy" ] && grep -qxF "$mark" "$policy"; then rm -f "$policy"; fi
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' HUP INT TERM
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "$@"
