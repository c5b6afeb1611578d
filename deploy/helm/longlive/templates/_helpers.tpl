{{- define "longlive.labels" -}}
app.kubernetes.io/name: longlive
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "longlive.settings" -}}
- { name: LONGLIVE_STORE, value: {{ required "store: where sessions are kept" .Values.store | quote }} }
- { name: LONGLIVE_MODEL_CACHE, value: /cache }
- { name: LONGLIVE_SHUTDOWN_SECONDS, value: '75' }
- { name: TMPDIR, value: /tmp }
{{- range $name, $key := dict "LONGLIVE_TOKEN" "token" "LONGLIVE_SIGNING_KEY" "signing-key" "LONGLIVE_REDIS" "redis" }}
- { name: {{ $name }}, valueFrom: { secretKeyRef: { name: {{ $.Values.secret }}, key: {{ $key }} } } }
{{- end }}
{{- range $name, $value := .Values.settings }}
- { name: {{ $name }}, value: {{ $value | quote }} }
{{- end }}
{{- end }}

{{- define "longlive.guarded" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}
