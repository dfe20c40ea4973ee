package agree

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"imapproxy/routing"
)

func (d *Drain) valid() error {
	switch {
	case validName(d.Backend) != nil:
		return validName(d.Backend)
	case d.Since <= 0 || d.Since > 1<<50 || d.Deadline < 0 || d.Deadline > 1<<50 || d.Begin < 0 || d.Begin > 1<<50 || d.Cycle < 0 || d.Cycle > 1<<40:
		return fmt.Errorf("its drain of %q has times out of range", clip(d.Backend))
	case !(d.Rate >= 0 && d.Rate <= 1e6) || len(d.By) > maxBy:
		return fmt.Errorf("its drain of %q isn't valid", clip(d.Backend))
	}
	return nil
}

func (p *Pause) valid() error {
	switch {
	case validName(p.Backend) != nil:
		return validName(p.Backend)
	case p.Since <= 0 || p.Since > 1<<50 || p.Until <= 0 || p.Until > 1<<50 || len(p.By) > maxBy:
		return fmt.Errorf("its pause of %q isn't valid", clip(p.Backend))
	}
	return nil
}

// valid checks everything that other code relies on.
func (f *Fleet) valid() error {
	switch {
	case f.Epoch == 0:
		return errors.New("its epoch is 0")
	case f.Buckets < 1 || f.Buckets > routing.Buckets || routing.Buckets%f.Buckets != 0:
		return fmt.Errorf("it has %d buckets", f.Buckets)
	case f.Users == "":
		return errors.New("it doesn't say how users are normalised")
	case len(f.Backends) > maxBackends || len(f.Drains) > maxBackends || len(f.Pauses) > maxBackends:
		return fmt.Errorf("it has %d backends, %d drains and %d pauses", len(f.Backends), len(f.Drains), len(f.Pauses))
	case len(f.Kept) == 0 || len(f.Kept) > maxKept:
		return fmt.Errorf("it keeps %d fleets", len(f.Kept))
	case f.Kept[len(f.Kept)-1].Epoch != f.Epoch:
		return errors.New("the last fleet that it keeps isn't its own")
	case f.Move.Cycle < 0 || f.Move.Slow < 0 || f.Move.Slow > 1<<40 || f.Move.Pause < 0 || f.Move.Begin < 0 || f.Move.Users < 0 || f.Move.Users > 1<<50 || f.Move.Cycle > 1<<40 || f.Move.Pause > 1<<40 || f.Move.Begin > 1<<50:
		return errors.New("its schedule of moves is out of range")
	}
	if _, err := routing.ParseStorage(f.Storage); err != nil {
		return err
	}
	for i := range f.Backends {
		b := &f.Backends[i]
		if err := validName(b.ID); err != nil {
			return err
		}
		if i > 0 && f.Backends[i-1].ID >= b.ID {
			return errors.New("its backends aren't sorted by id")
		}
		if b.Weight < 0 || b.Weight > 65535 || b.Address == "" {
			return fmt.Errorf("its backend %q has the weight %d and the address %q", clip(b.ID), b.Weight, clip(b.Address))
		}
	}
	for i := range f.Kept {
		k := &f.Kept[i]
		if i > 0 && f.Kept[i-1].Epoch+1 != k.Epoch || k.Epoch == 0 {
			return errors.New("the fleets that it keeps aren't in order")
		}
		if err := k.valid(); err != nil {
			return fmt.Errorf("fleet %d: %w", k.Epoch, err)
		}
	}
	for i := range f.Drains {
		if err := f.Drains[i].valid(); err != nil {
			return err
		}
		if i > 0 && f.Drains[i-1].Backend >= f.Drains[i].Backend {
			return errors.New("its drains aren't sorted by backend")
		}
	}
	for i := range f.Pauses {
		if err := f.Pauses[i].valid(); err != nil {
			return err
		}
		if i > 0 && f.Pauses[i-1].Backend >= f.Pauses[i].Backend {
			return errors.New("its pauses aren't sorted by backend")
		}
	}
	if !slices.Equal(f.newest().Up, upOf(f.Backends)) {
		return errors.New("its own entry among the fleets that it keeps differs from its backends")
	}
	return nil
}

func (k *Kept) valid() error {
	if k.Made == "" || len(k.Up) > maxBackends || len(k.Changes) > maxOverrides {
		return errors.New("it lacks its maker, or is too large")
	}
	for i, s := range k.Up {
		if err := validName(s.ID); err != nil {
			return err
		}
		if s.Weight < 0 || s.Weight > 65535 || i > 0 && k.Up[i-1].ID >= s.ID {
			return errors.New("its backends aren't sorted, or have no valid weight")
		}
	}
	for _, c := range k.Changes {
		if err := validName(c.User); err != nil {
			return err
		}
		if c.From == c.To || len(c.From) > maxName || len(c.To) > maxName {
			return fmt.Errorf("its change for %q isn't valid", clip(c.User))
		}
	}
	return nil
}

func (r *Record) valid(id string) error {
	switch {
	case r.ID != id || validName(id) != nil:
		return fmt.Errorf("it says that it is of proxy %q", clip(r.ID))
	case r.Acked == 0 || r.Seq == 0 || r.Made == "":
		return errors.New("it acks no fleet")
	case r.TTL < minTTL.Milliseconds() || r.TTL > 24*time.Hour.Milliseconds():
		return fmt.Errorf("its session's TTL is %d ms", r.TTL)
	case len(r.Buckets) > maxBackends || len(r.Users) > maxNamedStays || len(r.Unreachable) > maxBackends:
		return errors.New("it names too many stays or backends")
	}
	var seen Bitmap
	for backend, buckets := range r.Buckets {
		if err := validName(backend); err != nil {
			return err
		}
		for bucket := range buckets.All {
			if bucket >= routing.Buckets || seen.Has(bucket) {
				return fmt.Errorf("bucket %d is out of range, or at two backends", bucket)
			}
			seen.set(bucket)
		}
	}
	for user, backend := range r.Users {
		if err := errors.Join(validName(user), validName(backend)); err != nil {
			return err
		}
	}
	for _, backend := range r.Unreachable {
		if err := validName(backend); err != nil {
			return err
		}
	}
	return nil
}
