{{/* Names and labels. Templates use `.Chart.Name` for the project's name. */}}

{{- define "chart.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* 52 characters leave room for the suffixes of resource names. */}}
{{- define "chart.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "chart.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "chart.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels for selectors. Call with (dict "root" $ "component" "server"). The
component keeps the pods of the migration and of the test out of the Service,
the budget and the policy of the server. */}}
{{- define "chart.selectorLabels" -}}
app.kubernetes.io/name: {{ include "chart.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "chart.labels" -}}
{{ include "chart.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name (.root.Chart.Version | replace "+" "_") }}
{{- end -}}

{{- define "chart.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "chart.isSqlite" -}}
{{- if eq .Values.database.kind "sqlite" }}true{{ end -}}
{{- end -}}

{{- define "chart.sqliteClaim" -}}
{{- default (printf "%s-data" (include "chart.fullname" .)) .Values.database.sqlite.existingClaim -}}
{{- end -}}

{{/* Base of the links of alerts and dashboards. The default is the admin listener, which
serves the runbooks, and its live page instead of a dashboard. */}}
{{- define "chart.adminUrl" -}}
http://{{ include "chart.fullname" . }}-metrics.{{ .Release.Namespace }}.svc:{{ .Values.service.ports.metrics }}
{{- end -}}

{{- define "chart.runbooksUrl" -}}
{{ default (printf "%s/runbooks" (include "chart.adminUrl" .)) .Values.links.runbooks }}
{{- end -}}

{{- define "chart.grafanaUrl" -}}
{{ default (include "chart.adminUrl" .) .Values.links.grafana }}
{{- end -}}
