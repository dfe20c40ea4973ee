package session

// LetGo has the session give up its backend connection: its user is to be at another backend. It is parked at the next safe point, without
// having been idle first; where it can't be parked now, it is tried again at each command boundary. A parked session has no
// connection, and picks its backend anew when it needs one. abort: its connection is closed now, and the session ends
// with ReasonMoved. LetGo doesn't wait, and may be called again.
func (s *Session) LetGo(abort bool) {
	switch Attachment(s.attachment.Load()) {
	case None, Parked, Ended:
		return
	}
	s.leaving.Store(true)
	if abort {
		s.evict()
		return
	}
	s.Signal(SigPause)
}

// evict ends a session whose backend connection has to be closed now. Its client is told, unless it is in the middle of a response.
func (s *Session) evict() {
	s.Terminate(ReasonMoved)
	if !s.out.atBoundary() {
		s.abort() // no boundary may come
	}
}

// leaves says whether the session is to give up its backend connection, and may be parked for that: the settings allow it.
func (s *Session) leaves() bool { return s.leaving.Load() && s.mayPark() }
