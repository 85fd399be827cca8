{{/* Shared by the pods of server, migration and test: Kubernetes' "restricted" pod
security standard, without access to the API server. */}}
{{- define "chart.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "chart.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  privileged: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* Secrets are read from files, so that they are in no process environment and
rotated keys arrive without a restart (whole directories, never subPath). */}}
{{- define "chart.secretEnv" -}}
- name: APP__AUTH__KEYS_FILE
  value: /run/secrets/auth/keys.json
{{- if not (include "chart.isSqlite" .) }}
- name: APP__DATABASE__URL_FILE
  value: /run/secrets/database/url
{{- end }}
{{- end -}}

{{- define "chart.secretMounts" -}}
- name: auth
  mountPath: /run/secrets/auth
  readOnly: true
{{- if not (include "chart.isSqlite" .) }}
- name: database
  mountPath: /run/secrets/database
  readOnly: true
{{- end }}
{{- end -}}

{{- define "chart.secretVolumes" -}}
- name: auth
  secret:
    secretName: {{ .Values.auth.existingSecret | quote }}
    defaultMode: 0440
    items: [{key: keys.json, path: keys.json}]
{{- if not (include "chart.isSqlite" .) }}
- name: database
  secret:
    secretName: {{ .databaseSecret | default .Values.database.existingSecret | quote }}
    defaultMode: 0440
    items: [{key: url, path: url}]
{{- end }}
{{- end -}}

{{/* Secrets that only the server reads, mounted when their value names one. */}}
{{- define "chart.optionalSecretMounts" -}}
{{- if .Values.admin.existingSecret }}
- {name: admin, mountPath: /run/secrets/admin, readOnly: true}
{{- end }}
{{- if eq .Values.rateLimit.backend "redis" }}
- {name: redis, mountPath: /run/secrets/redis, readOnly: true}
{{- end }}
{{- if .Values.auth.bootstrapAdmin.existingSecret }}
- {name: bootstrap-admin, mountPath: /run/secrets/bootstrap-admin, readOnly: true}
{{- end }}
{{- end -}}

{{- define "chart.optionalSecretVolumes" -}}
{{- with .Values.admin.existingSecret }}
- name: admin
  secret: {secretName: {{ . | quote }}, defaultMode: 0440, items: [{key: token, path: token}]}
{{- end }}
{{- if eq .Values.rateLimit.backend "redis" }}
- name: redis
  secret: {secretName: {{ .Values.rateLimit.existingSecret | quote }}, defaultMode: 0440, items: [{key: url, path: url}]}
{{- end }}
{{- with .Values.auth.bootstrapAdmin.existingSecret }}
- name: bootstrap-admin
  secret: {secretName: {{ . | quote }}, defaultMode: 0440, items: [{key: password, path: password}]}
{{- end }}
{{- end -}}
