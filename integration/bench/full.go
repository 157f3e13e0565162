package bench

// fullScenarios are all that docs/performance.md speaks of.
func fullScenarios() []scenario {
	var all []scenario
	for _, part := range [][]scenario{loginScenarios(), largeScenarios(), smallScenarios(), listScenarios(), idleScenarios()} {
		all = append(all, part...)
	}
	return all
}

// KPOP comes next to the login that it is compared with: how fast a machine is may
// change within a minute.
func loginScenarios() []scenario {
	return []scenario{
		{name: "GSSAPI login, clear, 1 client", unit: "session", figures: all, mail: pollMail, run: logins(1, 400, false)},
		{name: "KPOP login, 8 clients", unit: "session", figures: all, only: "kpopd", goals: cpuGoal(ownLogin, 0.90), mail: pollMail, run: kpopLogins(8, 4500)},
		{name: ownLogin, unit: "session", figures: all, goals: cpuGoal(best, 0.22), mail: pollMail, run: logins(8, 4500, false)},
		{name: "GSSAPI login, clear, 32 clients", unit: "session", figures: all, goals: cpuGoal(best, 0.22), mail: pollMail, run: logins(32, 4500, false)},
		{name: "GSSAPI login, TLS, 1 client", unit: "session", figures: all, mail: pollMail, run: logins(1, 100, true)},
		{name: "GSSAPI login, TLS, 8 clients", unit: "session", figures: all, goals: cpuGoal(best, 0.33), mail: pollMail, run: logins(8, 1000, true)},
		{name: "GSSAPI login, TLS, 32 clients", unit: "session", figures: all, goals: cpuGoal(best, 0.33), mail: pollMail, run: logins(32, 1000, true)},
		{name: "poll storm, clear, 16 clients", unit: "session", figures: all, goals: cpuGoal(best, 0.22), mail: pollMail, run: polls(16, 4500, false)},
		{
			name: "poll storm, clear, 64 clients", unit: "session", figures: all, mail: pollMail, run: polls(64, 4500, false),
			goals: []goal{{figure: cpuTime, of: best, most: 0.22}, {figure: p99, of: best, most: 0.37}},
		},
		{name: "poll storm, TLS, 16 clients", unit: "session", figures: all, mail: pollMail, run: polls(16, 1000, true)},
	}
}

func largeScenarios() []scenario {
	large := func(name string, most float64, f transfer) scenario {
		f.of = bigMail
		return scenario{name: "RETR 1 MiB, " + name, mail: f.of, unit: "MB", figures: all, goals: cpuGoal(best, most), run: f.run}
	}
	huge := transfer{of: hugeMail, sessions: 1, n: 2, batch: 1}
	secret := huge
	secret.n, secret.secure = 1, true
	return []scenario{
		large("clear, one by one", 0.25, transfer{sessions: 1, n: 60, batch: 1}),
		large("clear, pipelined", 0.25, transfer{sessions: 1, n: 200, batch: 8}),
		large("clear, 8 sessions pipelined", 0.25, transfer{sessions: 8, n: 50, batch: 8}),
		large("TLS, one by one", 0.30, transfer{sessions: 1, n: 60, batch: 1, secure: true}),
		large("TLS, pipelined", 0.30, transfer{sessions: 1, n: 200, batch: 8, secure: true}),
		large("TLS, 8 sessions pipelined", 0.30, transfer{sessions: 8, n: 25, batch: 8, secure: true}),
		{name: "RETR 200 MiB, clear", unit: "MB", figures: all, goals: cpuGoal(best, 0.25), mail: hugeMail, run: huge.run},
		{name: "RETR 200 MiB, TLS", unit: "MB", figures: all, mail: hugeMail, run: secret.run},
	}
}

func smallScenarios() []scenario {
	small := func(name string, goals []goal, f transfer) scenario {
		f.of, f.messages = smallMail, true
		return scenario{name: "RETR 4 KiB, " + name, mail: f.of, unit: "message", figures: all, goals: goals, run: f.run}
	}
	tops := transfer{of: list(1), sessions: 1, n: 10_000, batch: 100, top: true, messages: true}
	slow := tops
	slow.n, slow.batch = 1000, 1
	return []scenario{
		small("clear, one by one", nil, transfer{sessions: 1, n: 300, batch: 1}),
		small("clear, pipelined", cpuGoal("mdbox", 0.45), transfer{sessions: 1, n: 20_000, batch: 50}),
		small("clear, 8 sessions pipelined", cpuGoal("mdbox", 0.45), transfer{sessions: 8, n: 2500, batch: 50}),
		small("TLS, one by one", nil, transfer{sessions: 1, n: 100, batch: 1, secure: true}),
		small("TLS, pipelined", cpuGoal("mdbox", 0.45), transfer{sessions: 1, n: 20_000, batch: 50, secure: true}),
		{name: "TOP n 0, one by one", unit: "message", figures: all, mail: tops.of, run: slow.run},
		{name: "TOP n 0, pipelined", unit: "message", figures: all, goals: cpuGoal("mdbox", 0.70), mail: tops.of, run: tops.run},
	}
}

// Deliveries come before what deletes: an ext4 without a journal looks at each inode
// that was freed within the last minutes before it gives it to a new file.
func listScenarios() []scenario {
	return []scenario{
		{name: "STAT, LIST, UIDL on 1,000", unit: "session", figures: all, mail: list(0), run: listings(list(0), 20)},
		{name: "STAT, LIST, UIDL on 10,000", unit: "session", figures: all, goals: cpuGoal("cyrus", 0.33), mail: list(1), run: listings(list(1), 20)},
		{name: "STAT, LIST, UIDL on 100,000", unit: "session", figures: all, goals: cpuGoal("cyrus", 0.35), mail: list(2), run: listings(list(2), 4)},
		{
			name: "login and STAT on 100,000", unit: "session", figures: all, mail: list(2), run: looks(list(2), 10),
			goals: []goal{{figure: cpuTime, of: "GSSAPI login, clear, 1 client", more: growth}},
		},
		{name: "LMTP, 4 KiB, 1 client", unit: "message", figures: all, goals: cpuGoal("cyrus", 0.50), mail: sentMail, run: deliveries(1, 300)},
		{name: "LMTP, 4 KiB, 8 clients", unit: "message", figures: all, goals: cpuGoal("cyrus", 0.50), mail: sentMail, run: deliveries(8, 800)},
		{
			name: "DELE of 10,000 and QUIT", unit: "session", figures: all, mail: deleMail, run: deletions,
			goals: []goal{{figure: p50, of: "mdbox", most: 0.60}, {figure: p50, of: "cyrus", most: 0.10}},
		},
	}
}

func idleScenarios() []scenario {
	idle := func(name string, n int, secure bool, rounds int, most float64) scenario {
		return scenario{
			name: name, unit: "session", figures: []figure{memory}, rounds: rounds, mail: idleMail, run: idles(n, secure),
			goals: []goal{{figure: memory, most: most}},
		}
	}
	return []scenario{
		idle("1,000 idle sessions, clear", 1000, false, 0, 8),
		idle("1,000 idle sessions, TLS", 1000, true, 0, 20),
		idle("5,000 idle sessions, clear", 5000, false, 1, 8),
		idle("5,000 idle sessions, TLS", 5000, true, 1, 20),
		idle("10,000 idle sessions, clear", 10_000, false, 1, 8),
		idle("10,000 idle sessions, TLS", 10_000, true, 1, 20),
	}
}
