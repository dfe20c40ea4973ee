package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/routing"
	"imapproxy/routing/agree"
	agreed "imapproxy/routing/cluster"
	"imapproxy/routing/discovery"
)

// Drain implements admin.Mover.
func (a mover) Drain(ctx context.Context, q admin.DrainRequest) (admin.DrainAnswer, error) {
	b, err := a.named(q.Backend)
	if err != nil {
		return admin.DrainAnswer{}, err
	}
	to, err := a.agreement.part.Preview(b.ID)
	if err == nil && !q.DryRun {
		if err = a.agreement.part.Drain(ctx, agree.DrainRequest{Backend: b.ID, By: q.By, Within: q.Time(), Rate: q.Rate}); err == nil {
			err = a.agreement.done(ctx)
		}
	}
	if err != nil {
		return admin.DrainAnswer{}, refusal(err)
	}
	d := admin.DrainAnswer{Backend: b.Name, StableID: b.ID, DryRun: q.DryRun, Moves: map[string]int{}, Sessions: a.server.SessionsOn(b.ID)[b.ID].Attachments}
	for id, n := range to {
		d.Users += n
		d.Moves[a.called(id)] += n
	}
	return d, nil
}

// Undrain implements admin.Mover.
func (a mover) Undrain(ctx context.Context, q admin.UndrainRequest) (admin.UndrainAnswer, error) {
	b, err := a.named(q.Backend)
	if err != nil { // a backend that isn't listed any more can have a drain
		if a.agreement.part.Drained(q.Backend) == 0 {
			return admin.UndrainAnswer{}, err
		}
		b.ID, b.Name = q.Backend, q.Backend
	}
	back, err := a.agreement.part.PreviewEnd(b.ID)
	if err == nil && !q.DryRun {
		if back, err = nil, a.agreement.part.Undrain(ctx, b.ID); err == nil {
			err = a.agreement.done(ctx)
		}
	}
	switch {
	case errors.Is(err, agree.ErrNotDrained) && b.State == routing.Draining:
		return admin.UndrainAnswer{}, refused(http.StatusConflict, admin.CodeRefused, fmt.Sprintf("no operator drains %s: it is in maintenance in Consul (consul maint -disable ends that)", b.Name))
	case err != nil:
		return admin.UndrainAnswer{}, refusal(err)
	}
	u := admin.UndrainAnswer{Backend: b.Name, StableID: b.ID, State: routing.Down.String(), Reason: "not listed", DryRun: q.DryRun, RebalanceRate: a.agreement.part.Status().RebalanceRate}
	for id, n := range back {
		if u.Back == nil {
			u.Back = map[string]int{}
		}
		u.Users += n
		u.Back[a.called(id)] += n
	}
	for _, now := range a.router.Backends() {
		if now.ID == b.ID && !now.Gone {
			u.State, u.Reason = now.State.String(), now.Reason
		}
	}
	return u, nil
}

// Drains implements admin.Mover.
func (a mover) Drains() []admin.Drain {
	s := a.agreement.part.Status()
	var all []admin.Drain
	for _, d := range s.Drains {
		one := admin.Drain{
			Backend: a.called(d.Backend), StableID: d.Backend, Operator: true, By: d.By, Since: given(milliseconds(d.Since)), Deadline: given(milliseconds(d.Deadline)),
			Rate: d.Rate, Users: d.Users, Started: d.Start, Begun: given(d.From), Ends: given(d.Ends), Ended: d.Ended,
		}
		if one.Rate == 0 {
			one.Rate = s.MoveRate
		}
		all = append(all, one)
	}
	for _, b := range a.router.Backends() {
		if b.State == routing.Draining && !b.Gone && !slices.ContainsFunc(all, func(d admin.Drain) bool { return d.StableID == b.ID }) {
			all = append(all, admin.Drain{Backend: b.Name, StableID: b.ID, Rate: s.MoveRate, Users: s.At[b.ID], Begun: given(b.Since), Ends: given(s.MovesEnd)})
		}
	}
	if len(all) == 0 {
		return nil // no listing of sessions
	}
	ids := make([]string, len(all))
	for i := range all {
		ids[i] = all[i].StableID
	}
	sessions := a.server.SessionsOn(ids...)
	for i := range all {
		at := sessions[all[i].StableID]
		all[i].Sessions, all[i].Held = at.Attachments, at.Held
	}
	for i := range all {
		for _, id := range s.WaitsFor[all[i].StableID] {
			if id == "" {
				id = "a proxy of a later release"
			}
			all[i].WaitsFor = append(all[i].WaitsFor, admin.Printable(id))
		}
		all[i].Words = all[i].Progress(time.Now())
	}
	slices.SortFunc(all, func(a, b admin.Drain) int { return strings.Compare(a.Backend, b.Backend) })
	return all
}

// milliseconds converts a time in a fleet; 0: none.
func milliseconds(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// Move implements admin.Mover.
func (a mover) Move(ctx context.Context, q admin.MoveRequest) (admin.MoveAnswer, error) {
	m := admin.MoveAnswer{User: q.User, DryRun: q.DryRun, Sessions: a.server.SessionsOf(q.User).Attachments}
	home, placed, err := a.placedNow(ctx, q.User)
	if err != nil {
		return m, err
	}
	was := a.agreement.part.Place(q.User, home)
	m.From, m.Before = a.called(was.Holds), a.called(was.Override)
	to := ""
	if !q.Auto {
		b, err := a.target(q.Backend)
		if err != nil {
			return m, err
		}
		if err := a.mayMove(q.User, b, placed); err != nil {
			return m, err
		}
		if lacks := a.server.Lacks(q.User, b.ID); len(lacks) > 0 && a.agreement.storage != routing.Separate {
			return m, refused(http.StatusConflict, admin.CodeRefused, fmt.Sprintf("clients of %s were told what %s can't do: %s. Their sessions would stay, and the user with them: move them once these have ended (imapproxy kick %s ends them)",
				q.User, b.Name, strings.Join(lacks, " "), q.User))
		}
		to, m.To, m.Override = b.ID, b.Name, b.Name
	} else {
		m.To = a.called(was.Auto)
	}
	if q.DryRun {
		return m, nil
	}
	if err := a.agreement.part.MoveUser(ctx, q.User, to); err != nil {
		return m, refusal(err)
	}
	if err := a.agreement.done(ctx); err != nil {
		return m, refusal(err)
	}
	if to == "" || !placed.inConsul || placed.value == m.To || placed.value == to {
		return m, nil
	}
	if err := a.server.Place(ctx, q.User, placed.value, m.To); err != nil {
		said := fmt.Sprintf("the proxies send %s to %s, but the placement in Consul still says %s", q.User, m.To, placed.value)
		if errors.Is(err, discovery.ErrNotPlaced) {
			said = fmt.Sprintf("the proxies send %s to %s, but the placement in Consul was changed by another program meanwhile", q.User, m.To)
		}
		return m, refused(http.StatusConflict, admin.CodeRefused, fmt.Sprintf("%s: %v; move them again, or take it back with --auto", said, err))
	}
	m.Placement = m.To
	return m, nil
}

// placed is a user's placement, and where it is stored.
type placed struct {
	value    string // "": there is none
	source   string // the source of credentials that has it; "": none
	inConsul bool
}

// placedNow returns the user's placement, and the ID of the backend that it names.
func (a mover) placedNow(ctx context.Context, user string) (home string, p placed, err error) {
	if p.value, p.source = a.server.PlacedBy(user); p.value == "" {
		ctx, cancel := context.WithTimeout(ctx, placementWithin)
		defer cancel()
		if p.value, err = a.server.PlacementOf(ctx, user); err != nil {
			return "", p, refused(http.StatusServiceUnavailable, admin.CodeNotAgreed, err.Error())
		}
		p.source, p.inConsul = "", p.value != ""
		if p.inConsul && !a.server.Places() {
			p.source, p.inConsul = "the configuration (domain)", false
		}
		for _, pin := range a.router.Pins(user) {
			if pin.Placement != "" && pin.Placement != p.value { // a source of credentials gave it at the last login
				p = placed{value: pin.Placement, source: "the source of credentials"}
			}
		}
	}
	if p.value != "" {
		if ids := a.router.Named(p.value); len(ids) == 1 {
			home = ids[0]
		}
	}
	return home, p, nil
}

// mayMove returns why a user can't be moved to a backend that is up; nil if they can.
//
//	a source of credentials places them elsewhere    no: each login would take them back
//	a source of credentials places them there        yes
//	separate storage, in Consul's KV                 yes: the placement is changed as well
//	separate storage, no placement is known          no: it isn't known where their mail is
//	shared storage                                   yes
func (a mover) mayMove(user string, to routing.Backend, p placed) error {
	separate := a.agreement.storage == routing.Separate
	switch {
	case p.source != "" && p.value != "" && !to.Means(p.value):
		return refused(http.StatusConflict, admin.CodeRefused, fmt.Sprintf("the placement of %s is %s, and it is in %s, which the proxy can't change: change it there (backend=%s); the user moves at the next login", user, p.value, p.source, to.Name))
	case separate && p.value == "":
		return refused(http.StatusConflict, admin.CodeRefused, fmt.Sprintf("%s has no placement in Consul (%s…), nor one that is known from a login: with separate storage the placement says where the mail is. Write one first", user, discovery.PlacementPrefix))
	}
	return nil
}

// target returns a backend to which a user may be moved.
func (a mover) target(name string) (routing.Backend, error) {
	b, err := a.named(name)
	if err == nil && b.State != routing.Up {
		why := ""
		if b.Reason != "" {
			why = " (" + b.Reason + ")"
		}
		err = refused(http.StatusConflict, admin.CodeRefused, fmt.Sprintf("%s is %s%s: users can be moved to backends that are up", b.Name, b.State, why))
	}
	return b, err
}

// named returns the listed backend that an operator's name for it means.
func (a mover) named(name string) (routing.Backend, error) {
	var found []routing.Backend
	var names []string
	for _, b := range a.router.Backends() {
		if b.Gone {
			continue
		}
		names = append(names, b.Name)
		switch {
		case b.ID == name || b.Name == name:
			return b.Backend, nil
		case b.Means(name):
			found = append(found, b.Backend)
		}
	}
	switch len(found) {
	case 0:
		return routing.Backend{}, refused(http.StatusNotFound, admin.CodeNoBackend, fmt.Sprintf("there is no backend %q; there are %s", name, few(names)))
	case 1:
		return found[0], nil
	}
	names = names[:0]
	for _, b := range found {
		names = append(names, b.Qualified())
	}
	return routing.Backend{}, refused(http.StatusNotFound, admin.CodeNoBackend, fmt.Sprintf("%q may be several: say one of %s", name, few(names)))
}

// few returns the beginning of a list, for an error.
func few(names []string) string {
	slices.Sort(names)
	if len(names) > 20 {
		return strings.Join(names[:20], ", ") + fmt.Sprintf(" and %d more", len(names)-20)
	}
	return strings.Join(names, ", ")
}

func refused(status int, code, message string) *admin.Refusal {
	return &admin.Refusal{Status: status, Code: code, Message: message}
}

// refusal converts an error of the agreement to one of the API.
func refusal(err error) error {
	switch {
	case errors.Is(err, agree.ErrNotInside):
		return refused(http.StatusServiceUnavailable, admin.CodeNotAgreed, "this proxy has no part in the agreement now (it is cut off from Consul, starting or stopping): ask another one")
	case errors.Is(err, agreed.ErrWait):
		return refused(http.StatusServiceUnavailable, admin.CodeNotAgreed, "the proxies have agreed on it, and this one doesn't use it yet. imapproxy backends and imapproxy user show the result")
	case errors.Is(err, agree.ErrUnknownBackend):
		return refused(http.StatusNotFound, admin.CodeNoBackend, err.Error())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return refused(http.StatusServiceUnavailable, admin.CodeNotAgreed, "the proxies haven't agreed on it yet; this one tries for a minute. imapproxy backends and imapproxy user show the result")
	case errors.Is(err, agree.ErrSeparate):
		return refused(http.StatusConflict, admin.CodeRefused, err.Error()+": move users one by one (imapproxy move), once their mail is at another backend")
	}
	return refused(http.StatusConflict, admin.CodeRefused, err.Error())
}

// endSessions ends the user's sessions that are left at a drained backend after its deadline.
func (a *App) endSessions(e agree.Effect) {
	if n := a.server.End(e.User, e.Backend); n > 0 {
		a.tel.Log.Warn("sessions couldn't be moved in the time that the drain gave them, and were ended", "user", e.User, "backend", a.called(e.Backend), "sessions", n)
	}
}
