package conn

// Trim frees the buffers that a tls.Conn keeps after its handshake (about 3.5 KB; 16 KB and more after one
// large record), if they are empty. tls has no public way (golang/go #43563), so Trim finds the fields by
// name and type; where Pool.Unfit has an error, it leaves them alone. Only the connection's reader may call
// it, outside a Pump.
func (c *Conn) Trim(pool *Pool) {
	if len(c.hold) == 0 {
		c.hold = nil
	}
	if c.inflate != nil {
		c.inflate.z.Trim()
	}
	if c.tls != nil && pool.unfit == nil {
		pool.layout.trim(c.tls)
	}
}

// TrimAll is Trim for a connection that is going to be idle: under TLS, its ciphers are put away, too, until the next record. Only a
// connection's owner may call it, while no other goroutine reads or writes; TLS may be called meanwhile.
func (c *Conn) TrimAll(pool *Pool) {
	c.Trim(pool)
	if c.tls != nil && pool.ciphers {
		c.socket().layout = &pool.layout
		_ = pool.layout.putAway(c.tls)
		pool.layout.forget(c.tls)
	}
}
