{{/* A value in the form of the environment: lists comma-separated, whole numbers
without an exponent (values files are parsed into floats). */}}
{{- define "chart.envValue" -}}
{{- if kindIs "slice" . -}}
{{- $items := list -}}
{{- range . }}{{ $items = append $items (include "chart.envValue" .) }}{{ end -}}
{{- join "," $items -}}
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- printf "%.0f" . -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{/* The tree `config` as `APP__SECTION__KEY: "value"` lines. Call with
(dict "prefix" "APP" "tree" .Values.config). */}}
{{- define "chart.flatten" -}}
{{- $prefix := .prefix -}}
{{- range $key, $value := .tree }}
{{- $name := printf "%s__%s" $prefix (upper $key) }}
{{- if kindIs "map" $value }}
{{- include "chart.flatten" (dict "prefix" $name "tree" $value) }}
{{- else }}
{{ $name }}: {{ include "chart.envValue" $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The service's configuration, without secrets. */}}
{{- define "chart.configData" -}}
APP_ENV: production
APP__HTTP__ADDR: {{ printf "0.0.0.0:%d" (int .Values.service.ports.http) | quote }}
APP__ADMIN__ADDR: {{ printf "0.0.0.0:%d" (int .Values.service.ports.metrics) | quote }}
APP__GRPC__ADDR: {{ printf "0.0.0.0:%d" (int .Values.service.ports.grpc) | quote }}
APP__LIFECYCLE__DRAIN_DELAY: {{ .Values.lifecycle.drainDelay | quote }}
APP__LIFECYCLE__GRACE_PERIOD: {{ .Values.lifecycle.gracePeriod | quote }}
APP__TELEMETRY__FLUSH_TIMEOUT: {{ .Values.lifecycle.flushTimeout | quote }}
{{- with .Values.trustedProxies }}
APP__HTTP__TRUSTED_PROXIES: {{ join "," . | quote }}
{{- end }}
{{- if include "chart.isSqlite" . }}
APP__DATABASE__URL: {{ printf "sqlite:///data/%s.db" .Chart.Name | quote }}
APP__DATABASE__ALLOW_SQLITE: "true"
{{- /* One process owns the file, so it migrates itself. A hook Job could not
mount a volume that the running pod holds. */}}
APP__DATABASE__MIGRATE_ON_START: "true"
{{- else }}
APP__DATABASE__MIGRATE_ON_START: "false"
{{- end }}
{{- if eq .Values.rateLimit.backend "redis" }}
APP__RATE_LIMIT__BACKEND: redis
{{- end }}
OTEL_SERVICE_NAME: {{ default .Chart.Name .Values.otel.serviceName | quote }}
{{- with .Values.otel.endpoint }}
OTEL_EXPORTER_OTLP_ENDPOINT: {{ . | quote }}
OTEL_EXPORTER_OTLP_PROTOCOL: {{ $.Values.otel.protocol | quote }}
{{- end }}
{{- include "chart.flatten" (dict "prefix" "APP" "tree" .Values.config) }}
{{- end -}}

{{/* Resource attributes of the pod in all its signals, from the downward API. */}}
{{- define "chart.resourceEnv" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_UID
  valueFrom: {fieldRef: {fieldPath: metadata.uid}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: >-
    k8s.pod.name=$(POD_NAME),k8s.pod.uid=$(POD_UID),k8s.namespace.name=$(POD_NAMESPACE),k8s.node.name=$(NODE_NAME),k8s.deployment.name=
    {{- include "chart.fullname" . }},k8s.container.name=server
    {{- range $key, $value := .Values.otel.resourceAttributes }},{{ $key }}={{ $value }}{{ end }}
{{- end -}}
