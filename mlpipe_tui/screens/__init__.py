"""The screens: each lays out panes, asks the bridge, and draws what view models say."""
