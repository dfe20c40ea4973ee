package idlers

import (
	"fmt"

	"imapproxy/e2e/servers"
)

// imaplib2 is a script with Python's imaplib2, which OfflineIMAP uses: it filters by message numbers, and its IDLE ends at each
// response.
func imaplib2(a *account) {
	script := a.file("filter.py", fmt.Sprintf(`
import faulthandler, imaplib2
faulthandler.dump_traceback_later(50, repeat=True)
box = imaplib2.IMAP4_SSL('localhost', %s, ca_certs='%s')
def ok(answer):
    kind, data = answer
    if kind != 'OK': raise Exception('%%s %%s' %% (kind, data))
    return data
def find(kind): return ','.join(ok(box.search(None, 'SUBJECT', kind))[0].decode().split())
def delete(found):
    ok(box.store(found, '+FLAGS.SILENT', r'(\Deleted)'))
    ok(box.expunge())
ok(box.login('%s', '%s'))
ok(box.select('INBOX'))
while True:
    found = find('move')
    if found:
        ok(box.copy(found, 'Moved'))
        delete(find('move'))  # servers tell of EXPUNGE behind COPY: other numbers
    found = find('drop')
    if found: delete(found)
    ok(box.idle(timeout=60))
`, a.port(), a.l.CertFile, a.user, servers.Password))
	a.filters("/usr/bin/python3", script)
}

// netIMAP is a script with Ruby's Net::IMAP: it moves by UIDs and deletes by message numbers. It gives a server 5 s to answer DONE by
// default.
func netIMAP(a *account) {
	script := a.file("filter.rb", fmt.Sprintf(`
require 'net/imap'
box = Net::IMAP.new('localhost', port: %s, ssl: { ca_file: '%s' }, idle_response_timeout: 60)
box.login('%s', '%s')
box.select('INBOX')
loop do
  found = box.uid_search(['SUBJECT', 'move'])
  box.uid_move(found, 'Moved') unless found.empty?
  found = box.search(['SUBJECT', 'drop'])
  unless found.empty?
    box.store(found, '+FLAGS.SILENT', [:Deleted])
    box.expunge
  end
  box.idle(60) do |response|
    box.idle_done if response.is_a?(Net::IMAP::UntaggedResponse) && %%w[EXISTS EXPUNGE].include?(response.name)
  end
end
`, a.port(), a.l.CertFile, a.user, servers.Password))
	a.filters("/usr/bin/ruby", script)
}

// mailIMAPTalk is a script with Perl's Mail::IMAPTalk: it filters by UIDs.
func mailIMAPTalk(a *account) {
	script := a.file("filter.pl", fmt.Sprintf(`
use strict;
use Mail::IMAPTalk;
my $box = Mail::IMAPTalk->new(
  Server => 'localhost', Port => %s, Username => '%s', Password => '%s', Uid => 1,
  UseBlocking => 1, UseSSL => 1, SSL_ca_file => '%s', SSL_verifycn_name => 'localhost',
) or die "connect: $@";
$box->select('INBOX') or die $@;
sub found {
  my $found = $box->search('subject', $_[0]) or die $@;
  return join ',', @$found;
}
sub deletes {
  $box->store($_[0], '+flags.silent', '(\Deleted)') or die $@;
  $box->expunge or die $@;
}
while (1) {
  if (my $set = found('move')) {
    $box->copy($set, 'Moved') or die $@;
    deletes($set);
  }
  if (my $set = found('drop')) { deletes($set); }
  $box->idle(sub { 1 }) or die $@;
}
`, a.port(), a.user, servers.Password, a.l.CertFile))
	a.filters("/usr/bin/perl", script)
}
