# What a proxy's token needs in Consul: consul acl policy create -name imapproxy -rules @policy.hcl
#
# imap and imapproxy are the names in discovery "consul" { service } and in register { service } and cluster { service }.

# The backends.
service "imap" {
  policy = "read"
}

# Without it Consul leaves out the backends of nodes that the token can't read: its answer is an empty list, and no error.
node_prefix "" {
  policy = "read"
}

# The proxy's own entry, and the other proxies' entries.
service "imapproxy" {
  policy = "write"
}

# Users' placements (imapproxy/placement/), and what the proxies agree on (imapproxy/imapproxy/).
key_prefix "imapproxy/" {
  policy = "write"
}

# The session of a proxy with the block cluster. It belongs to the node of the proxy's agent: where that node is always the same,
# session "NAME OF THE NODE" is enough.
session_prefix "" {
  policy = "write"
}
