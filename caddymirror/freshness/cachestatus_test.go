package freshness

import (
	"reflect"
	"testing"
	"time"
)

// TestCacheStatus_RFC9211_2 is RFC 9211 section 2.
func TestCacheStatus_RFC9211_2(t *testing.T) {
	for _, tc := range []struct {
		name string
		s    CacheStatus
		want string
	}{
		{"hit", CacheStatus{Cache: "mirror", Hit: true}, "mirror;hit"},
		{"2.1 hit with ttl", CacheStatus{Cache: "mirror", Hit: true, TTL: 30 * time.Second, HasTTL: true}, "mirror;hit;ttl=30"},
		{"2.4 stale", CacheStatus{Cache: "mirror", Hit: true, TTL: -412 * time.Second, HasTTL: true}, "mirror;hit;ttl=-412"},
		{"2.2 forwarded", CacheStatus{Cache: "mirror", Fwd: FwdURIMiss, Stored: true}, "mirror;fwd=uri-miss;stored"},
		{"2.3 revalidated", CacheStatus{Cache: "mirror", Fwd: FwdStale, FwdStatus: 304, Collapsed: true}, "mirror;fwd=stale;fwd-status=304;collapsed"},
		{"2.7 key, 2.8 detail", CacheStatus{Cache: "mirror", Fwd: FwdMiss, Key: `/a"b\c`, Detail: "no-store"}, `mirror;fwd=miss;key="/a\"b\\c";detail=no-store`},
		{"a name that is no token", CacheStatus{Cache: "1 mirror"}, `"1 mirror"`},
		{"a name that begins as no token does", CacheStatus{Cache: "1mirror"}, `"1mirror"`},
		{"names that begin as tokens do", CacheStatus{Cache: "*", Detail: "Zz", Fwd: "az"}, "*;fwd=az;detail=Zz"},
		{"a name between the letters", CacheStatus{Cache: "[a", Detail: "`"}, `"[a";detail="` + "`" + `"`},
		{"a name with port", CacheStatus{Cache: "mirror.example:80"}, "mirror.example:80"},
		{"no name", CacheStatus{}, `""`},
		{"detail in words", CacheStatus{Cache: "m", Detail: "away: no such host"}, `m;detail="away: no such host"`},
		{"other characters", CacheStatus{Cache: "m", Detail: "a\r\nX: 1", Key: "/é\x7f"}, `m;key="/??";detail="a??X: 1"`},
	} {
		got := tc.s.String()
		if got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
		if tc.s.Cache == "" || tc.name == "other characters" {
			continue
		}
		if back, err := ParseCacheStatus([]string{got}); err != nil || !reflect.DeepEqual(back, []CacheStatus{tc.s}) {
			t.Errorf("%s: read as %+v, %v", tc.name, back, err)
		}
	}
}

// TestParseCacheStatus_RFC9211_2 is how members of others are read.
func TestParseCacheStatus_RFC9211_2(t *testing.T) {
	for _, tc := range []struct {
		lines []string
		want  []CacheStatus
		ok    bool
	}{
		{nil, nil, true},
		{[]string{""}, nil, true},
		{
			[]string{"OriginCache; hit; ttl=1100", `"CDN Company Here"; hit; ttl=545`},
			[]CacheStatus{
				{Cache: "OriginCache", Hit: true, TTL: 1100 * time.Second, HasTTL: true},
				{Cache: "CDN Company Here", Hit: true, TTL: 545 * time.Second, HasTTL: true},
			},
			true,
		},
		{[]string{"ExampleCache; fwd=uri-miss; collapsed=?0; x=1"}, []CacheStatus{{Cache: "ExampleCache", Fwd: "uri-miss"}}, true},
		{[]string{`m; hit=1; fwd=3; ttl=1.5; fwd-status=99; key=?1`}, []CacheStatus{{Cache: "m"}}, true},
		{[]string{`m; ttl=-999999999999999`}, []CacheStatus{{Cache: "m", TTL: -Forever, HasTTL: true}}, true},
		{[]string{"m; hit, "}, nil, false},
		{[]string{"(a b); hit"}, nil, false},
		{[]string{"42; hit"}, nil, false},
		{[]string{"HIT from proxy"}, nil, false},
	} {
		got, err := ParseCacheStatus(tc.lines)
		if (err == nil) != tc.ok || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%q: %+v %v, want %+v", tc.lines, got, err, tc.want)
		}
	}
}
