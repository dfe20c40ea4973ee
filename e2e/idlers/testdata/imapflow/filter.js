// Moves messages whose subject begins with "move" to Moved, and deletes those that begin with "drop", whenever IDLE tells of a change.
const { readFileSync } = require('fs');
const { ImapFlow } = require('imapflow');
const [port, user, password, certificate] = process.argv.slice(2);

async function main() {
  const box = new ImapFlow({ host: 'localhost', port: Number(port), secure: true, tls: { ca: readFileSync(certificate) }, auth: { user, pass: password }, logger: false });
  let tells = () => {};
  box.on('exists', () => tells());
  box.on('expunge', () => tells());
  box.on('error', (err) => { console.error(err); process.exit(1); });
  box.on('close', () => { console.error('the connection was closed'); process.exit(1); });
  await box.connect();
  await box.mailboxOpen('INBOX');
  for (;;) {
    const told = new Promise((resolve) => { tells = resolve; });
    let found = await box.search({ subject: 'move' }, { uid: true });
    if (found.length) await box.messageMove(found, 'Moved', { uid: true });
    found = await box.search({ subject: 'drop' }, { uid: true });
    if (found.length) await box.messageDelete(found, { uid: true });
    box.idle(); // the next command ends it
    await told;
  }
}

main().catch((err) => { console.error(err); process.exit(1); });
