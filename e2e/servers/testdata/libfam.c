/* A file monitor that never reports anything. Courier's imapd is linked against
   libfam and, where it finds no monitor, tries for seconds at each login and
   then complains in an ALERT. With this one it looks at the mailbox itself, as
   it does on machines without a monitor. */
#include <unistd.h>

typedef struct { int fd; void *client; } FAMConnection;

int FAMOpen(FAMConnection *c) {
	int ends[2];
	if (pipe(ends) < 0)
		return -1;
	c->fd = ends[0]; /* the other end stays open: never readable */
	c->client = 0;
	return 0;
}
int FAMClose(FAMConnection *c) { return close(c->fd); }
int FAMMonitorDirectory(FAMConnection *c, const char *path, void *request, void *data) { return 0; }
int FAMMonitorFile(FAMConnection *c, const char *path, void *request, void *data) { return 0; }
int FAMCancelMonitor(FAMConnection *c, const void *request) { return 0; }
int FAMNextEvent(FAMConnection *c, void *event) { return -1; }
int FAMPending(FAMConnection *c) { return 0; }
