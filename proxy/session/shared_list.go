package session

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/shared"
	"imapproxy/proxy/track"
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
	heard := o.s.env.Now()
	stop := o.s.reassures(&heard, true)
	resp, err := o.listed(cmd, h, &l)
	stop()
	if errors.Is(err, errUnknownOption) {
		return o.answer(h, wire.BAD, "Unknown option")
	}
	words := resp.Text
	if words == "" {
		words = h.Verb.String() + " completed"
	}
	return o.told(h, err, words)
}

var errUnknownOption = errors.New("an option of LIST that isn't known")

// listed writes the lines that answer a LIST. It returns the own backend's answer, if that was asked.
func (o *visit) listed(cmd []byte, h wire.CommandHead, l *shared.Listing) (resp wire.Response, err error) {
	carried := track.CarryWhole(h)
	switch ours := l.OnlyOurs(o.n); {
	case ours && !l.Known():
		return resp, errUnknownOption
	case ours && l.Hierarchy:
		return resp, o.write(l.AppendLine(nil, o.n, o.n.Prefix, []string{`\Noselect`}, false), true)
	case !ours:
		if resp, err = o.ownWhole(strings.TrimRight(string(cmd[len(h.Tag)+1:]), "\r\n")); err != nil || l.Hierarchy {
			return resp, err
		}
		o.followed(o.home, &carried, wire.OK)
	}
	o.followed(nil, &carried, wire.OK)
	if l.Excludes() {
		return resp, nil
	}
	return resp, o.lists(l)
}

// ownWhole is own for a LIST, which may have literals: they are sent as quoted strings. Names in the namespace aren't passed on.
func (o *visit) ownWhole(text string) (wire.Response, error) {
	if strings.Contains(text, "\n") {
		text = quotedLiterals(text)
	}
	return o.own(text, func(u imapclient.Untagged) bool { return o.n.Hides(append(bytes.Clone(u.Response.Line), "\r\n"...)) })
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
	o.silent, o.slow = map[string]bool{}, map[string]string{}
	defer func() { o.silent, o.slow = nil, nil }()
	separator := o.n.Separator()
	all := []shared.Entry{{Name: o.n.Root(), Attributes: shared.Levels()}}
	for _, owner := range owners {
		entries := o.owned(owner)
		if s.Reason() != "" {
			return errSessionOver
		}
		if len(entries) > 0 {
			all = append(all, shared.Entry{Name: o.n.Join(owner, ""), Attributes: shared.Levels()})
		}
		for _, e := range entries {
			all = append(all, shared.Entry{Name: o.n.Join(owner, e.Name), Attributes: e.Attributes})
		}
	}
	if len(all) == 1 {
		return nil
	}
	below := map[string]bool{} // the levels above mailboxes that aren't listed themselves
	for _, e := range all {
		if l.Recurses() && shared.Selectable(e.Attributes) && !l.Wants(e.Name, separator) {
			for i := strings.LastIndexByte(e.Name, separator); i > 0 && !below[e.Name[:i]]; i = strings.LastIndexByte(e.Name[:i], separator) {
				below[e.Name[:i]] = true
			}
		}
	}
	var out []byte
	var status []string
	for _, e := range all {
		switch selectable := shared.Selectable(e.Attributes); {
		case !selectable && !l.WantsLevel(e.Name, separator, below[e.Name]), selectable && !l.Wants(e.Name, separator):
			continue
		case selectable && l.Status != "":
			status = append(status, e.Name)
		}
		out = l.AppendLine(out, o.n, e.Name, e.Attributes, below[e.Name])
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
		o.keepsSilent(leg.pick.Backend.ID, owner, err)
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
	pair := sharedPair{owner, s.user, s.inFlight.Client.UTF8()}
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
		o.keepsSilent(leg.pick.Backend.ID, owner, err)
		o.close(leg)
		return nil
	}
	entries = shared.WithLevels(entries, o.n.Separator(), maxOwned)
	s.env.SharedLists.put(pair, entries, s.env.Now())
	return entries
}
