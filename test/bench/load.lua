-- Only done is defined: wrk keeps sending its one prepared request.
function done(summary, latency, requests)
	local e = summary.errors
	io.write(string.format("bench: %d %d %d %d %d %d %d %d %d %d\n",
		summary.requests, summary.bytes, summary.duration,
		latency:percentile(50), latency:percentile(99),
		e.connect, e.read, e.write, e.status, e.timeout))
end
