{{/* The chart creates no secret. It refuses to render until the values name them. */}}
{{- define "chart.require" -}}
{{- if not .Values.auth.existingSecret -}}
{{- fail (printf "auth.existingSecret is empty: the signing keys must be in a Secret of yours. Make one with `%s keygen | kubectl create secret generic %s-keys --namespace %s --from-file=keys.json=/dev/stdin` and set auth.existingSecret=%s-keys" .Chart.Name .Chart.Name .Release.Namespace .Chart.Name) -}}
{{- end -}}
{{- if and (not (include "chart.isSqlite" .)) (not .Values.database.existingSecret) -}}
{{- fail (printf "database.existingSecret is empty: the Postgres URL must be in a Secret of yours. Make one with `kubectl create secret generic %s-database --namespace %s --from-file=url=FILE`, where FILE holds postgres://user:password@host:5432/name, and set database.existingSecret=%s-database; or set database.kind=sqlite" .Chart.Name .Release.Namespace .Chart.Name) -}}
{{- end -}}
{{- if and (eq .Values.rateLimit.backend "redis") (not .Values.rateLimit.existingSecret) -}}
{{- fail (printf "rateLimit.existingSecret is empty: with rateLimit.backend=redis the Redis URL must be in a Secret of yours. Make one with `kubectl create secret generic %s-redis --namespace %s --from-file=url=FILE` and set rateLimit.existingSecret=%s-redis" .Chart.Name .Release.Namespace .Chart.Name) -}}
{{- end -}}
{{- end -}}
