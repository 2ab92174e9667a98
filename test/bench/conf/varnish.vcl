# Varnish before the origin. The rest is Varnish's own built-in VCL.
vcl 4.1;

backend origin {
	.host = "{{.OriginHost}}";
	.port = "{{.OriginPort}}";
}
