# An example of imapproxy in Nomad, with the package's program on each client: nomad job run imapproxy.nomad.hcl
#
# The proxy registers itself in Consul (register {}), so the job has no service of its own. With several instances the configuration has a block cluster
# (docs/cluster.md).
job "imapproxy" {
  datacenters = ["dc1"]
  type        = "service"

  group "imapproxy" {
    count = 2

    # One after the other, each only once the one before is well.
    update {
      max_parallel     = 1
      health_check     = "task_states"
      min_healthy_time = "30s"
      healthy_deadline = "5m"
      auto_revert      = true
    }

    constraint {
      operator = "distinct_hosts"
      value    = "true"
    }

    network {
      mode = "host"
      port "imaps" {
        static = 1993
      }
    }

    task "imapproxy" {
      driver = "exec"
      user   = "imapproxy"

      config {
        command = "/usr/bin/imapproxy"
        args    = ["serve", "--config", "${NOMAD_TASK_DIR}/config.hcl"]
      }

      # Longer than lame_duck and drain together. max_kill_timeout of the Nomad client has to allow it.
      kill_signal  = "SIGTERM"
      kill_timeout = "150s"

      template {
        destination   = "local/config.hcl"
        change_mode   = "signal"
        change_signal = "SIGHUP"
        data          = <<-END
          hostname = "imap.example.org"
          listener "imaps" {
            address = ":1993"
            tls     = "implicit"
            certificate {
              cert_file = "/etc/imapproxy/fullchain.pem"
              key_file  = "/etc/imapproxy/privkey.pem"
            }
          }
          auth "backend" {}
          backend_login {
            mode = "user"
          }
          backend_defaults {
            tls = "starttls"
          }
          discovery "consul" {
            service    = "imap"
            token_file = "/etc/imapproxy/consul.token"
          }
          routing {
            storage = "shared"
          }
          register {
          }
          cluster {
          }
          admin {
            address    = ":8143"
            token_file = "/etc/imapproxy/admin.token"
          }
          shutdown {
            lame_duck = "15s"
            drain     = "120s"
          }
        END
      }

      resources {
        cpu    = 1000
        memory = 1024
      }
    }
  }
}
