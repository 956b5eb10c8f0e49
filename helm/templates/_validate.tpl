{{/*
What a schema cannot say, or could only say without naming the remedy. Every problem is reported at once.
*/}}
{{- define "whatsapp-gateway.validate" -}}
{{- $problems := list }}

{{- if gt (int .Values.replicaCount) 1 }}
{{- $problems = append $problems (printf "replicaCount is %v, but the embedded event log has exactly one writer: set replicaCount to 1." .Values.replicaCount) }}
{{- end }}

{{- if not .Values.existingSecret }}
{{- $problems = append $problems "existingSecret is empty: create a Secret with the keys app-secret, verify-token and access-token, and set existingSecret to its name." }}
{{- end }}

{{- if not .Values.apps }}
{{- $problems = append $problems "apps is empty: add the Meta app that sends the webhooks, as in apps[0].id=1234567890." }}
{{- end }}
{{- $appIds := list }}
{{- range .Values.apps }}
{{- if has .id $appIds }}
{{- $problems = append $problems (printf "apps names the app %s twice: remove one, or put both secrets into its secretKeys." .id) }}
{{- end }}
{{- $appIds = append $appIds .id }}
{{- end }}

{{- if not .Values.wabas }}
{{- $problems = append $problems "wabas is empty: add the WhatsApp Business Account with its phoneNumberIds." }}
{{- end }}
{{- $wabaIds := list }}
{{- $phoneNumberIds := list }}
{{- range .Values.wabas }}
{{- if has .id $wabaIds }}
{{- $problems = append $problems (printf "wabas names the WABA %s twice: put all its numbers into one entry." .id) }}
{{- end }}
{{- $wabaIds = append $wabaIds .id }}
{{- if and .appId (not (has .appId $appIds)) }}
{{- $problems = append $problems (printf "the WABA %s belongs to the app %s, which is not in apps: add it there or correct appId." .id .appId) }}
{{- end }}
{{- range .phoneNumberIds }}
{{- if has . $phoneNumberIds }}
{{- $problems = append $problems (printf "wabas names the phone number id %s twice: keep it in the WABA that owns it." .) }}
{{- end }}
{{- $phoneNumberIds = append $phoneNumberIds . }}
{{- end }}
{{- end }}

{{- if not (or .Values.callers .Values.config.grpc.insecure) }}
{{- $problems = append $problems "callers is empty, so nobody could call the gateway: add a caller with the SHA-256 of its token, or set config.grpc.insecure to true to serve everybody who can reach the port." }}
{{- end }}
{{- $callerNames := list }}
{{- range .Values.callers }}
{{- if has .name $callerNames }}
{{- $problems = append $problems (printf "callers names %s twice: put all its hashes into one entry." .name) }}
{{- end }}
{{- $callerNames = append $callerNames .name }}
{{- if not (or .tokenSha256 .tokenSha256Key .identities) }}
{{- $problems = append $problems (printf "the caller %s has no token: give it tokenSha256, tokenSha256Key or identities." .name) }}
{{- end }}
{{- if and .identities (not $.Values.grpcTls.clientCaKey) }}
{{- $problems = append $problems (printf "the caller %s has identities, but no client certificates are asked for: set grpcTls.clientCaKey." .name) }}
{{- end }}
{{- end }}

{{- if and .Values.grpcTls.clientCaKey (not .Values.grpcTls.secretName) }}
{{- $problems = append $problems "grpcTls.clientCaKey is set but grpcTls.secretName is empty: name the Secret that holds tls.crt, tls.key and this key." }}
{{- end }}
{{- if and (eq .Values.grpcTls.clientAuth "required") (not .Values.grpcTls.clientCaKey) }}
{{- $problems = append $problems "grpcTls.clientAuth is required but grpcTls.clientCaKey is empty: name the key that holds the authorities of the clients." }}
{{- end }}

{{- if and .Values.ingress.enabled (not .Values.ingress.host) }}
{{- $problems = append $problems "ingress.enabled is true but ingress.host is empty: set it to the host name that Meta posts to." }}
{{- end }}

{{- if $problems }}
{{- fail (printf "\n\n- %s\n" (join "\n- " $problems)) }}
{{- end }}
{{- end }}
