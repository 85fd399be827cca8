// The shape that our dashboards must have: Grafana's own types, with the options of each
// panel type that we use. `tests/system/60-dashboards` holds the JSON against it.

import type { Dashboard as AnyDashboard, Panel, RowPanel } from '@grafana/schema';
import type * as bargauge from '@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen';
import type * as heatmap from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as timeseries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

// JSON holds an enum's value, which TypeScript does not take for its member.
type Json<T> = T extends string
  ? `${T}`
  : T extends object
    ? { [Key in keyof T]: Json<T[Key]> }
    : T;

interface Query {
  refId: string;
  datasource: { type: 'prometheus'; uid: '${datasource}' };
  expr: string;
  legendFormat: string;
  format: 'time_series' | 'table' | 'heatmap';
  editorMode: 'code';
  instant: boolean;
  range: boolean;
  interval: '$scrape';
  exemplar?: true;
}

// Grafana fills in the options that a panel leaves out.
type PanelOf<Kind extends string, Options, Custom> = Omit<
  Panel<Partial<Options>, Custom>,
  'type' | 'targets' | 'links'
> & {
  type: Kind;
  description: string;
  datasource: Query['datasource'];
  targets: Query[];
  links: Array<{ title: string; url: string; targetBlank: boolean }>;
};

type DataPanel =
  | PanelOf<'timeseries', timeseries.Options, timeseries.FieldConfig>
  | PanelOf<'stat', stat.Options, never>
  | PanelOf<'table', table.Options, table.FieldConfig>
  | PanelOf<'bargauge', bargauge.Options, never>
  | PanelOf<'heatmap', heatmap.Options, heatmap.FieldConfig>;

// Fields of Prometheus's annotation queries, which the common type does not know.
interface Annotation {
  name: string;
  enable: boolean;
  hide: boolean;
  iconColor: string;
  datasource: Query['datasource'];
  expr: string;
  step: string;
  titleFormat: string;
  textFormat: string;
  useValueForTime?: boolean;
}

export type Dashboard = Json<
  Omit<AnyDashboard, 'panels' | 'annotations'> & {
    panels: Array<DataPanel | RowPanel>;
    annotations: { list: Annotation[] };
  }
>;
