{{/* The problem of an id of Meta's, if it has one. */}}
{{- define "whatsapp-gateway.validate.id" -}}
{{- if not (kindIs "string" .value) }}
{{- printf "- %s is a number: put it in quotes, since YAML rounds long numbers.\n" .path }}
{{- else if not (regexMatch "^[0-9]{1,32}$" .value) }}
{{- printf "- %s is %q: write Meta's id, 1 to 32 digits in quotes.\n" .path .value }}
{{- end }}
{{- end }}

{{- define "whatsapp-gateway.validate.accounts" -}}
{{- if not .Values.apps }}
{{- print "- apps is empty: add the Meta app that sends the webhooks, as in apps[0].id=1234567890.\n" }}
{{- end }}
{{- $appIds := list }}
{{- range $i, $app := .Values.apps }}
{{- include "whatsapp-gateway.validate.id" (dict "path" (printf "apps[%d].id" $i) "value" .id) }}
{{- if has .id $appIds }}
{{- printf "- apps names the app %v twice: remove one, or put both secrets into its secretKeys.\n" .id }}
{{- end }}
{{- $appIds = append $appIds .id }}
{{- end }}

{{- if not .Values.wabas }}
{{- print "- wabas is empty: add the WhatsApp Business Account with its phoneNumberIds.\n" }}
{{- end }}
{{- $wabaIds := list }}
{{- $phoneNumberIds := list }}
{{- range $i, $waba := .Values.wabas }}
{{- include "whatsapp-gateway.validate.id" (dict "path" (printf "wabas[%d].id" $i) "value" .id) }}
{{- if has .id $wabaIds }}
{{- printf "- wabas names the WABA %v twice: put all its numbers into one entry.\n" .id }}
{{- end }}
{{- $wabaIds = append $wabaIds .id }}
{{- if and .appId (not (has .appId $appIds)) }}
{{- printf "- the WABA %v belongs to the app %v, which is not in apps: add it there or correct appId.\n" .id .appId }}
{{- end }}
{{- range $j, $id := .phoneNumberIds }}
{{- include "whatsapp-gateway.validate.id" (dict "path" (printf "wabas[%d].phoneNumberIds[%d]" $i $j) "value" $id) }}
{{- if has $id $phoneNumberIds }}
{{- printf "- wabas names the phone number id %v twice: keep it in the WABA that owns it.\n" $id }}
{{- end }}
{{- $phoneNumberIds = append $phoneNumberIds $id }}
{{- end }}
{{- end }}
{{- end }}

{{- define "whatsapp-gateway.validate.callers" -}}
{{- $isInsecure := eq (toString .Values.config.grpc.insecure) "true" }}
{{- $names := list }}
{{- $hashes := dict }}
{{- $identities := dict }}
{{- $subjects := dict }}
{{- $issuers := list }}
{{- range .Values.jwtIssuers }}
{{- $issuers = append $issuers .issuer }}
{{- end }}
{{- range $i, $caller := .Values.callers }}
{{- $at := printf "callers[%d]" $i }}
{{- if not (regexMatch "^[A-Za-z0-9._-]{1,64}$" .name) }}
{{- printf "- %s.name is %q: write 1 to 64 letters, digits, -, _ or dots.\n" $at .name }}
{{- end }}
{{- if has .name $names }}
{{- printf "- callers names %s twice: put all its hashes into one entry.\n" .name }}
{{- end }}
{{- $names = append $names .name }}
{{- $credentials := or .tokenSha256 .tokenSha256Key .identities .jwtSubjects }}
{{- if eq .name "local" }}
{{- printf "- %s.name is local, which stands for calls without credentials on a loopback address, and a pod has none: choose another name.\n" $at }}
{{- else if eq .name "anonymous" }}
{{- if $credentials }}
{{- printf "- %s.name is anonymous, which stands for calls without credentials: choose another name, or remove tokenSha256, tokenSha256Key, identities and jwtSubjects.\n" $at }}
{{- else if not $isInsecure }}
{{- printf "- %s.name is anonymous, but calls without credentials are refused: set config.grpc.insecure to true, or remove it.\n" $at }}
{{- end }}
{{- else if not $credentials }}
{{- printf "- the caller %s has no token: give it tokenSha256, tokenSha256Key, identities or jwtSubjects.\n" .name }}
{{- end }}
{{- if gt (len (default list .tokenSha256)) 2 }}
{{- printf "- %s.tokenSha256 has %d hashes: keep one, or two while the token is being rotated.\n" $at (len .tokenSha256) }}
{{- end }}
{{- range $j, $line := .tokenSha256 }}
{{- /* The value is not shown: it may be the token itself. */}}
{{- $time := "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})" }}
{{- if or (not (regexMatch (printf "^[0-9a-fA-F]{64}( (expires|not_before)=%s){0,2}$" $time) $line)) (regexMatch " expires=.* expires=| not_before=.* not_before=" $line) }}
{{- printf "- %s.tokenSha256[%d] is not the SHA-256 of a token: write what 'whatsapp-gateway create-token --caller %s' prints, 64 hexadecimal digits and perhaps expires= and not_before=.\n" $at $j $caller.name }}
{{- end }}
{{- $hash := splitList " " $line | first | lower }}
{{- if hasKey $hashes $hash }}
{{- printf "- the callers %s and %s have the same token: give each its own.\n" (get $hashes $hash) $caller.name }}
{{- end }}
{{- $_ := set $hashes $hash $caller.name }}
{{- end }}
{{- with .tokenSha256Key }}
{{- if hasKey $hashes . }}
{{- printf "- the callers %s and %s have the same tokenSha256Key, and so the same token: give each its own.\n" (get $hashes .) $caller.name }}
{{- end }}
{{- $_ := set $hashes . $caller.name }}
{{- end }}
{{- range $j, $identity := .identities }}
{{- $isDns := regexMatch "^dns:[A-Za-z0-9]([-A-Za-z0-9_]*[A-Za-z0-9])?([.][A-Za-z0-9]([-A-Za-z0-9_]*[A-Za-z0-9])?)*$" $identity }}
{{- $isUri := and (regexMatch "^[a-z][a-z0-9+.-]*://[!-)+-~]+$" $identity) (or (not (hasPrefix "spiffe:" $identity)) (regexMatch "^spiffe://[a-z0-9._-]+(/|$)" $identity)) }}
{{- if not (or $isDns $isUri) }}
{{- printf "- %s.identities[%d] is %q: write a URI such as spiffe://example.org/ns/shop/sa/orders, or dns: and a DNS name, without wildcards.\n" $at $j $identity }}
{{- end }}
{{- if hasKey $identities $identity }}
{{- printf "- the callers %s and %s have the same identity %s: keep it with one of them.\n" (get $identities $identity) $caller.name $identity }}
{{- end }}
{{- $_ := set $identities $identity $caller.name }}
{{- end }}
{{- if and .identities (not $.Values.grpcTls.clientCaKey) }}
{{- printf "- the caller %s has identities, but no client certificates are asked for: set grpcTls.clientCaKey.\n" .name }}
{{- end }}
{{- if and .jwtSubjects (or (not $.Values.jwtIssuers) (and .jwtIssuer (not (has .jwtIssuer $issuers))) (and (not .jwtIssuer) (gt (len $issuers) 1))) }}
{{- printf "- the caller %s has jwtSubjects, but not whose they are: add the issuer to jwtIssuers, and where there are several, name it in jwtIssuer.\n" .name }}
{{- end }}
{{- if and .jwtIssuer (not .jwtSubjects) }}
{{- printf "- %s.jwtIssuer is %s, but jwtSubjects is empty: list the subjects of its tokens, or remove it.\n" $at .jwtIssuer }}
{{- end }}
{{- range .jwtSubjects }}
{{- $subject := printf "%s of %s" . (default (first $issuers) $caller.jwtIssuer) }}
{{- if hasKey $subjects $subject }}
{{- printf "- the callers %s and %s have the same subject %s: keep it with one of them.\n" (get $subjects $subject) $caller.name . }}
{{- end }}
{{- $_ := set $subjects $subject $caller.name }}
{{- end }}
{{- include "whatsapp-gateway.validate.rights" (dict "at" $at "caller" . "Values" $.Values) }}
{{- end }}
{{- if not (or $isInsecure (without $names "local" "anonymous")) }}
{{- print "- callers is empty, so nobody could call the gateway: add a caller with the SHA-256 of its token, or set config.grpc.insecure to true to serve everybody who can reach the port.\n" }}
{{- end }}
{{- end }}

{{- define "whatsapp-gateway.validate.jwt" -}}
{{- $issuers := list }}
{{- range $i, $issuer := .Values.jwtIssuers }}
{{- $at := printf "jwtIssuers[%d]" $i }}
{{- if has .issuer $issuers }}
{{- printf "- jwtIssuers names %s twice: put all its audiences into one entry.\n" .issuer }}
{{- end }}
{{- $issuers = append $issuers .issuer }}
{{- if eq (empty .jwksKey) (empty .jwksUrl) }}
{{- printf "- %s needs its keys from one place: set jwksKey or jwksUrl.\n" $at }}
{{- end }}
{{- if and .jwksUrl (not (regexMatch "^https://[^@#[:space:]]+$" .jwksUrl)) }}
{{- printf "- %s.jwksUrl is no https:// URL without user and password: whoever changes the keys on their way can make tokens.\n" $at }}
{{- end }}
{{- if and .jwksKey (or .jwksCaFile .jwksTokenFile) }}
{{- printf "- %s.jwksCaFile and jwksTokenFile are for jwksUrl: remove them beside jwksKey.\n" $at }}
{{- end }}
{{- if .leeway }}
{{- $leeway := include "whatsapp-gateway.milliseconds" .leeway }}
{{- if or (not $leeway) (gt (int64 $leeway) 300000) }}
{{- printf "- %s.leeway is %q: write a duration of at most 5 min, such as 30 s.\n" $at .leeway }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "whatsapp-gateway.validate.rights" -}}
{{- $caller := .caller }}
{{- $at := .at }}
{{- $known := include "whatsapp-gateway.methods" . | fromYaml }}
{{- $allowed := list }}
{{- range $i, $pattern := $caller.methods }}
{{- $covered := list }}
{{- range $name, $_ := $known }}
{{- if or (eq $pattern "*") (eq $pattern $name) (and (hasSuffix "/*" $pattern) (hasPrefix (trimSuffix "*" $pattern) $name)) }}
{{- $covered = append $covered $name }}
{{- end }}
{{- end }}
{{- if not $covered }}
{{- printf "- %s.methods[%d] is %q, which is no method: write %s, ManageTemplate/* or *.\n" $at $i $pattern (keys $known | sortAlpha | join ", ") }}
{{- end }}
{{- $allowed = concat $allowed $covered }}
{{- end }}
{{- $concerns := list }}
{{- range $allowed }}
{{- $concerns = append $concerns (get $known .) }}
{{- end }}
{{- if and (not $caller.phoneNumbers) (or (has "Number" $concerns) (and (not $caller.wabas) (or (has "NumberOrWaba" $concerns) (has "Events" $concerns)))) }}
{{- printf "- %s.phoneNumbers is empty, so its methods would work with no number: list phone number ids, or \"*\".\n" $at }}
{{- end }}
{{- if and (not $caller.wabas) (has "Waba" $concerns) }}
{{- printf "- %s.wabas is empty, so its methods would work with no account: list ids of WABAs, or \"*\".\n" $at }}
{{- end }}
{{- if and (not $caller.eventTypes) (has "Events" $concerns) }}
{{- printf "- %s.eventTypes is empty, so SubscribeEvents would show nothing: list types such as whatsapp.message.*, or \"*\".\n" $at }}
{{- end }}
{{- range $i, $type := $caller.eventTypes }}
{{- if not (regexMatch "^([*]|[A-Za-z0-9_-]+([.][A-Za-z0-9_-]+)*([.][*])?)$" $type) }}
{{- printf "- %s.eventTypes[%d] is %q, which is no type of event: write whatsapp.message.status, whatsapp.message.* or *.\n" $at $i $type }}
{{- end }}
{{- end }}
{{- $ids := dict "phoneNumbers" list "wabas" list }}
{{- range .Values.wabas }}
{{- $_ := set $ids "wabas" (append $ids.wabas .id) }}
{{- $_ := set $ids "phoneNumbers" (concat $ids.phoneNumbers (default list .phoneNumberIds)) }}
{{- end }}
{{- range $key, $configured := $ids }}
{{- range $i, $id := index $caller $key }}
{{- if not (or (eq (toString $id) "*") (has $id $configured)) }}
{{- printf "- %s.%s[%d] is %v, which wabas does not have: correct it, or write \"*\" for all.\n" $at $key $i $id }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
