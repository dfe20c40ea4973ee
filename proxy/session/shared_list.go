package session

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/shared"
	"imapproxy/proxy/wire"
)

// namespace answers NAMESPACE: the own backend's answer with one more namespace of other users (RFC 2342).
func (o *visit) namespace(h wire.CommandHead, cmd []byte) error {
	if len(h.Args) > 0 {
		return o.refuseAs(cmd, wire.BAD, "NAMESPACE has no arguments")
	}
	h.Tag = bytes.Clone(h.Tag)
	var line []byte
	_, err := o.own("NAMESPACE", func(u imapclient.Untagged) bool {
		if !u.Is("NAMESPACE") {
			return false
		}
		line, _ = o.n.Namespaces(u.Rest)
		return true
	})
	if err == nil && line != nil {
		if err := o.write(line, true); err != nil {
			return err
		}
	}
	return o.told(h, err, "Namespace completed")
}

// list answers LIST and its like: what the own backend lists, and what owners share with the user.
func (o *visit) list(cmd []byte) error {
	l, err := shared.ParseList(cmd)
	for errors.Is(err, shared.ErrMore) {
		if cmd, err = o.rest(cmd); err != nil {
			return err
		}
		l, err = shared.ParseList(cmd)
	}
	h := wire.ParseCommandHead(cmd)
	h.Tag = bytes.Clone(h.Tag)
	if err != nil {
		return o.refuseAs(cmd, wire.BAD, "The arguments of "+h.Verb.String()+" can't be read")
	}
	if l.OnlyOurs(o.n) {
		if err := o.lists(&l); err != nil {
			return err
		}
		return o.answer(h, wire.OK, h.Verb.String()+" completed")
	}
	text := strings.TrimRight(string(cmd[len(h.Tag)+1:]), "\r\n")
	resp, err := o.ownWhole(text)
	if err == nil && !l.Hierarchy() && !l.Excludes() {
		err = o.lists(&l)
	}
	words := resp.Text
	if words == "" {
		words = h.Verb.String() + " completed"
	}
	return o.told(h, err, words)
}

// ownWhole is own for a command that may have literals, which are sent without being asked for where the backend takes them.
func (o *visit) ownWhole(text string) (wire.Response, error) {
	if strings.Contains(text, "\n") {
		text = quotedLiterals(text)
	}
	return o.own(text, nil)
}

// quotedLiterals writes the literals of a LIST, which are names and patterns, as quoted strings.
func quotedLiterals(text string) string {
	b := []byte(text)
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			return string(b)
		}
		size, _, ok := wire.LiteralSpec(b[:i+1])
		from := bytes.LastIndexByte(b[:i], '{')
		if !ok || from < 0 || int64(len(b)-i-1) < size {
			return string(bytes.ReplaceAll(b, []byte("\n"), nil)) // a BAD from the backend
		}
		end := i + 1 + int(size)
		out := wire.AppendQuoted(bytes.Clone(b[:from]), string(b[i+1:end]))
		b = append(out, b[end:]...)
	}
}

// lists writes the lines of the namespace.
func (o *visit) lists(l *shared.Listing) error {
	s := o.s
	owners, err := o.owners(l)
	if err != nil {
		s.log().Warn("whose mailboxes are shared can't be found", "error", err)
		return nil // the user's own mailboxes are listed
	}
	any := false
	var out []byte
	var status []string
	for _, owner := range owners {
		entries := o.owned(owner)
		if s.Reason() != "" {
			return errSessionOver
		}
		if len(entries) == 0 {
			continue
		}
		any = true
		if name := o.n.Join(owner, ""); l.Wants(name, o.n.Separator()) {
			out = l.AppendLine(out, o.n, name, []string{`\Noselect`, `\HasChildren`})
		}
		for _, e := range entries {
			name := o.n.Join(owner, e.Name)
			if !l.Wants(name, o.n.Separator()) {
				continue
			}
			out = l.AppendLine(out, o.n, name, e.Attributes)
			if l.Status != "" && shared.Selectable(e.Attributes) {
				status = append(status, name)
			}
		}
	}
	if name := o.n.Root(); any && l.Wants(name, o.n.Separator()) {
		out = l.AppendLine(out, o.n, name, []string{`\Noselect`, `\HasChildren`})
	}
	if len(out) > 0 {
		if err := o.write(out, true); err != nil {
			return err
		}
	}
	for _, name := range status {
		if line := o.statusOf(name, l.Status); line != nil {
			if err := o.write(line, true); err != nil {
				return err
			}
		}
	}
	return nil
}

// statusOf returns the STATUS of a mailbox for LIST (RFC 5819), nil for one that can't be had.
func (o *visit) statusOf(name, items string) (line []byte) {
	owner, box, _ := o.n.Split(name)
	leg, err := o.asking(owner, o.connect)
	if err == nil {
		var rights string
		if rights, err = o.rightsOn(leg, box); err == nil && strings.Contains(rights, "r") {
			_, err = o.do(leg, "STATUS "+string(shared.AppendName(nil, box))+" "+items, func(u imapclient.Untagged) bool {
				if u.Is("STATUS") {
					line = o.n.Response(append(bytes.Clone(u.Response.Line), "\r\n"...), owner)
				}
				return true
			})
		}
	}
	if _, lost := errors.AsType[*lostLeg](err); lost {
		o.close(leg)
	}
	if err != nil {
		o.s.log().Debug("the status of a shared mailbox can't be listed", "owner", owner, "error", err)
		return nil
	}
	return line
}

// owners returns the users whose mailboxes a LIST may be about.
func (o *visit) owners(l *shared.Listing) ([]string, error) {
	var named []string // by the patterns, so that they needn't be among those that are known
	for _, p := range l.Patterns {
		rest, in := strings.CutPrefix(p, o.n.Prefix)
		if owner, _, below := strings.Cut(rest, string(o.n.Separator())); in && below && !strings.ContainsAny(owner, "*%") {
			named = append(named, owner)
		}
	}
	if len(named) == len(l.Patterns) {
		slices.Sort(named)
		return slices.Compact(named), nil
	}
	all := named
	if o.set.Owners != nil && (l.MayWantBelow(o.n.Prefix) || l.Wants(o.n.Root(), o.n.Separator())) {
		ctx, cancel := o.s.within(sharedWithin)
		defer cancel()
		known, err := o.set.Owners(ctx, maxOwners)
		if err != nil {
			return nil, err
		}
		all = append(all, known...)
	}
	all = slices.DeleteFunc(all, func(owner string) bool { return owner == o.s.user || !o.n.CanOwn(owner) })
	slices.Sort(all)
	all = slices.Compact(all)
	return all[:min(len(all), maxOwners)], nil
}

// owned returns the mailboxes of an owner that the user may see, nil where none is known.
func (o *visit) owned(owner string) []shared.Entry {
	s := o.s
	pair := sharedPair{owner, s.user}
	within := o.set.Within
	if within == 0 {
		within = sharedListFor
	}
	if entries, ok := s.env.SharedLists.get(pair, s.env.Now().Add(-within)); ok {
		return entries
	}
	leg, err := o.asking(owner, o.connect)
	if err != nil {
		if errors.Is(err, errNotShared) {
			s.env.SharedLists.put(pair, nil, s.env.Now())
		} else {
			s.log().Info("an owner's mailboxes can't be listed", "owner", owner, "error", err)
		}
		return nil
	}
	var entries []shared.Entry
	_, err = o.do(leg, `LIST "" "*"`, func(u imapclient.Untagged) bool {
		if !u.Is("LIST") {
			return true
		}
		rest := bytes.Clone(u.Response.Line)
		if e, err := shared.ListEntry(wire.ParseResponseHead(rest).Rest); err == nil && len(entries) < maxOwned && shared.CanSend(e.Name) && (e.Separator == 0 || e.Separator == o.n.Separator()) {
			entries = append(entries, e)
		}
		return true
	})
	inbox := slices.IndexFunc(entries, func(e shared.Entry) bool { return e.Name == "INBOX" })
	if err == nil && inbox >= 0 { // Dovecot lists it for everyone
		var rights string
		if rights, err = o.rightsOn(leg, "INBOX"); !strings.Contains(rights, "l") {
			entries = slices.Delete(entries, inbox, inbox+1)
		}
	}
	if err != nil {
		s.log().Info("an owner's mailboxes can't be listed", "owner", owner, "error", err)
		o.close(leg)
		return nil
	}
	s.env.SharedLists.put(pair, entries, s.env.Now())
	return entries
}
