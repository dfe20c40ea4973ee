package proxy

import (
	"bytes"

	"imapproxy/proxy/wire"
)

// rest reads what follows a command's first line: its literals, and the lines behind
// them. agreed says that the client was told to go on with one.
func (o *owing) rest(cmd []byte) (whole []byte, agreed bool, err error) {
	for line := cmd; ; {
		size, sync, ok := wire.LiteralSpec(line)
		switch {
		case !ok:
			return cmd, agreed, nil
		case size > maxOwedLiteral || len(cmd)+int(size) > maxOwedLine:
			return cmd, agreed, wire.ErrLiteralTooLong
		case sync:
			agreed = true
			if err := o.s.out.relay([]byte("+ OK\r\n"), true); err != nil {
				return cmd, agreed, err
			}
		}
		at := len(cmd)
		if err = o.client.Copy(func(b []byte) error { cmd = append(cmd, b...); return nil }, size); err != nil {
			return cmd, agreed, err
		}
		if bytes.IndexByte(cmd[at:], 0) >= 0 {
			return cmd, agreed, wire.ErrNUL
		}
		if line, err = o.client.ReadLine(maxOwedLine - len(cmd)); err != nil {
			return cmd, agreed, err
		}
		cmd = append(cmd, line...)
	}
}

// discard reads over what follows the first line of a command that is refused. What has to
// be agreed to doesn't follow.
func (o *owing) discard(line []byte) error {
	for {
		size, sync, ok := wire.LiteralSpec(line)
		if !ok || sync {
			return nil
		}
		err := o.client.Copy(func([]byte) error { return nil }, size)
		if err == nil {
			line, err = o.client.ReadLine(maxOwedLine)
		}
		if err != nil {
			return err
		}
	}
}
