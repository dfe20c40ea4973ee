package upstream

import "context"

// Identify tells a backend whose connection this is, as before each login (RFC 2971,
// and Dovecot's fields of it), and gives the text of its answer: Dovecot 2.4 says
// "Trusted ID completed." if it believes this proxy about addresses, and "ID
// completed." if not, which Dovecot 2.3 says in either case. "" without ID. Its errors
// are *Unavailable.
func (d *Dialer) Identify(ctx context.Context, t Target, c Client) (text string, err error) {
	err = d.connected(ctx, t, c, func(ctx context.Context, s *dialogue) error {
		if err := d.open(ctx, s, t, c); err != nil {
			return err
		}
		if err := s.askCaps(); err != nil {
			return atStage(StageCapability, err)
		}
		if s.caps.Has("ID") {
			tag := s.command(idCommand(d.opt.Hostname, c))
			if err := s.flush(); err != nil {
				return atStage(StageCapability, err)
			}
			resp, err := s.answer(tag, false)
			if err != nil {
				return atStage(StageCapability, err)
			}
			text = cleanText(resp.Text)
		}
		s.command("LOGOUT\r\n")
		_ = s.flush() // a courtesy; what is answered is of no concern
		_ = s.c.Close()
		return nil
	})
	return text, err
}
