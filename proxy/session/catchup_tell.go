package session

import (
	"slices"

	"imapproxy/proxy/park/view"
)

// tellAllButExpunge tells the changes that remove no message, before a command during which EXPUNGE may not be
// sent. A client that has enabled UIDONLY is told everything, since none of its commands forbids anything.
func (o *catchUp) tellAllButExpunge() error {
	if o.deferred == nil {
		return nil
	}
	t := &o.s.inFlight.Client
	d, rest := o.deferred.missed, view.Difference{}
	if !t.UIDOnly {
		d, rest = d.Split(t.Dialect)
	}
	line, err := o.allButLast(d, o.deferred.view)
	if err != nil {
		return err
	}
	t.Mailbox.Update(o.deferred.view.After(d))
	o.modSeq = max(o.modSeq, d.ModSeq)
	o.flags, o.bound, o.deferred = rest.Changed, rest.ModSeq, nil
	return o.write(line, true)
}

// tellDeferred tells everything that is deferred, and leaves the command to the relay. If the client was told
// nothing before, EXPUNGE comes before EXISTS, as servers send it: mutt 2.2 fetches new mail by the numbers of
// EXISTS, whatever EXPUNGE follows.
func (o *catchUp) tellDeferred(cmd []byte) error {
	s := o.s
	t := &s.inFlight.Client
	if t.UIDOnly && o.deferred == nil {
		return o.handOver(cmd)
	}
	cmd = o.spare(cmd, cmd)
	var line []byte
	var err error
	if u := o.deferred; u != nil {
		line, err = o.allButLast(u.missed, u.view)
		t.Mailbox.Update(u.view.After(u.missed))
	} else {
		before, _ := o.n.Client()
		gone := o.n.Told()
		known, count := o.n.Client()
		t.Mailbox.Counts(known, count)
		t.Mailbox.ModSeq = max(t.Mailbox.ModSeq, o.bound)
		o.flags = slices.DeleteFunc(o.flags, func(c view.FlagChange) bool { return !known.Contains(c.UID) })
		line, err = o.allButLast(view.Difference{Vanished: gone, Changed: o.flags}, &view.View{UIDs: before})
	}
	if err != nil {
		return err
	}
	if err := o.write(line, true); err != nil {
		return err
	}
	return o.handOver(cmd)
}

// allButLast writes a difference except its last piece, and returns that piece.
func (o *catchUp) allButLast(d view.Difference, v *view.View) (last []byte, err error) {
	t := &o.s.inFlight.Client
	for piece := range d.Pieces(t.Dialect, t.UIDOnly, v, tellPiece) {
		if len(piece) < tellPiece {
			return piece, nil
		}
		if err := o.write(piece, true); err != nil {
			return nil, err
		}
	}
	return nil, nil
}
