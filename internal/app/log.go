package app

import "imapproxy/telemetry"

// reopenLog opens the log's file again, since logrotate may have renamed it. If that fails, the log continues
// in the old file.
func (a *App) reopenLog() {
	file, err := telemetry.OpenLogFile(a.cfg.Telemetry.Log.File)
	if err != nil {
		a.tel.Log.Error("the log file can't be reopened: the proxy goes on writing to the old one", "setting", "telemetry.log.file", "error", err)
		return
	}
	a.tel.SwitchLog(file)
}
