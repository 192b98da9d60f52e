# Shared by ./try and ./test: what the machine must have, and the Python environments. Sourced by bash.
#
# Everything here is safe to repeat and does nothing when there is nothing to do.

CACHE=${COLONNADE_CACHE:-/var/lib/colonnade}

say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 1; }

# What the machine itself must allow. One sentence for the first thing that is missing.
require_machine() {
  [ "$(uname -s)" = Linux ] || die "this needs Linux (Debian 12 is what it is tested on), not $(uname -s)."
  [ "$(id -u)" = 0 ] || die "this makes network namespaces and needs root: run it with sudo."
  local caps
  caps=$((16#$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)))
  [ $((caps >> 12 & 1)) = 1 ] || die "this process has no CAP_NET_ADMIN: in a container, start it with that capability."
  [ $((caps >> 21 & 1)) = 1 ] || die "this process has no CAP_SYS_ADMIN: in a container, start it with that capability."
  unshare --net true 2>/dev/null || die "this machine does not let us make network namespaces (unshare --net failed)."
}

# Packages that bring the commands which are not there yet.
install_packages() {
  local missing=()
  local command package
  while read -r command package; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null || missing+=("$package")
  done <<'LIST'
haproxy haproxy
keepalived keepalived
nft nftables
ip iproute2
ping iputils-ping
curl curl
ps procps
python3 python3
LIST
  [ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
  if [ ! -x /usr/bin/python3 ] || ! /usr/bin/python3 -c 'import ensurepip, venv' 2>/dev/null; then
    missing+=(python3-venv)
  fi
  [ ${#missing[@]} = 0 ] && return
  install_debian "${missing[@]}"
}

# install_debian PACKAGE...: their own services are to stay off, now and after a reboot; we start the programs ourselves.
install_debian() {
  local package services=()
  command -v apt-get >/dev/null ||
    die "please install these, this machine has no apt-get to do it with: $*"
  say "Installing Debian packages: $*"
  mapfile -t services < <(printf '%s\n' "$@" | grep -E '^(haproxy|keepalived|postgresql)')
  (
    mkdir -p "$CACHE"
    exec 9>"$CACHE/.packages.lock" # two at a time would take the policy away from one another
    flock 9
    if [ ! -e /usr/sbin/policy-rc.d ]; then
      printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
      chmod 755 /usr/sbin/policy-rc.d
      trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    export DEBIAN_FRONTEND=noninteractive
    local patient=(-o DPkg::Lock::Timeout=120 -o Acquire::Retries=3)
    apt-get -qq "${patient[@]}" update >/dev/null || say "apt-get update failed; trying with the lists we have."
    apt-get -qq -y "${patient[@]}" --no-install-recommends install "$@" >/dev/null ||
      die "apt-get could not install: $* (its messages are above)."
    for package in "${services[@]}"; do systemctl disable "${package%-15}" >/dev/null 2>&1 || true; done
  ) || exit 1
}

# The Python to build on: Debian's own where it is new enough, so that environments outlive a user's other Pythons.
base_python() {
  local python
  for python in /usr/bin/python3 /usr/bin/python3.11 "$(command -v python3)"; do
    if [ -x "$python" ] && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s' "$python"
      return
    fi
  done
  die "this needs Python 3.11 or newer (Debian 12 has it)."
}

# environment NAME LOCK: prints the directory of a Python environment that holds exactly what LOCK says. It is made
# once for each content of LOCK and shared by all installations. One without .complete was interrupted: made anew.
environment() {
  local name=$1 lock=$2 python key dir
  python=$(base_python) || exit 1
  key=$({ "$python" -VV; cat "$lock"; } | sha256sum | cut -c1-12)
  dir=$CACHE/env/$name-$key
  if [ ! -e "$dir/.complete" ]; then
    mkdir -p "$CACHE/env"
    chmod 755 "$CACHE" "$CACHE/env"
    (
      umask 022
      exec 9>"$CACHE/env/.lock"
      flock 9
      [ ! -e "$dir/.complete" ] || exit 0
      say "Making the Python environment $name"
      rm -rf "$dir"
      "$python" -m venv "$dir" >&2 || exit 1
      _fill "$dir" "$lock" && touch "$dir/.complete"
    ) || die "could not make the Python environment $dir (messages above); run this again to try anew."
  fi
  printf '%s' "$dir"
}

# uv takes seconds where pip takes minutes; hashes decide what is installed, so either will do.
_fill() {
  local dir=$1 lock=$2 uv=$CACHE/env/uv
  if ! "$uv/bin/uv" --version >/dev/null 2>&1; then
    rm -rf "$uv"
    "$dir/bin/python" -m venv "$uv" >&2 && "$uv/bin/pip" install -qq uv >&2 || say "No uv here: using pip."
  fi
  if "$uv/bin/uv" --version >/dev/null 2>&1; then
    (
      eval "$(_uv_settings "$dir/bin/pip")"
      "$uv/bin/uv" pip install --quiet --python "$dir/bin/python" --compile-bytecode --require-hashes -r "$lock" >&2
    ) && return
    say "uv could not do it: using pip."
  fi
  "$dir/bin/pip" install -qq --require-hashes -r "$lock" >&2
}

# pip's configuration (mirrors, certificates) in uv's words: uv does not read it. What is set for uv already stays.
_uv_settings() {
  "$1" config list 2>/dev/null | "${1%/pip}/python" -c '
import ast, os, shlex, sys
names = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "find-links": "UV_FIND_LINKS", "cert": "SSL_CERT_FILE"}
print("export UV_INDEX_STRATEGY=unsafe-best-match UV_HTTP_TIMEOUT=180 UV_NO_PROGRESS=1")  # as pip: hashes protect us
for line in sys.stdin:
    key, _, value = line.partition("=")
    name = names.get(key.rpartition(".")[2])
    if name and name not in os.environ:
        print("export", name + "=" + shlex.quote(" ".join(ast.literal_eval(value.strip()).split())))
'
}
