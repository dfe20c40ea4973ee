// Package pair keeps processes of one proxy from having one user on two backends while an old process still
// serves its sessions beside its successor (docs/architecture.md, "Two processes"). It is for a proxy that decides
// alone where users are; with a block cluster both processes are proxies to that agreement, and pair isn't used.
//
//   - table.go: the claims of this process and of those before it
//   - ask.go: questions to the successor, and its answers
//   - free.go: what the newest process does to have a user elsewhere
//
// The package has no connections and no goroutines: internal/app carries questions and answers.
//
// Imports none of our packages. Imported by internal/app.
package pair
