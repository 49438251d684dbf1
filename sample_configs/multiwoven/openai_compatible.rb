# frozen_string_literal: true

# The "OpenAI Compatible Endpoint" source of an AI Squared (Multiwoven) server, answered by the `openai-compatible`
# program. Its name, icon and saved connectors stay as they are. README.md says where this file goes.

require "open3"

module Multiwoven::Integrations::Source::GenericOpenAI
  class Client
    COMMAND = %w[openai-compatible --protocol multiwoven].freeze
    # None of the server's own variables: a config may refer to the environment, and its author is any user.
    ENVIRONMENT = ENV.to_h.slice("PATH", "HOME", "LANG").freeze

    def connector_spec
      @@connector_spec ||= ConnectorSpecification.from_json(first("spec").to_json)
    rescue SystemCallError # the program is missing: the server's list of sources should not be
      super
    end

    def check_connection(connection_config)
      ConnectionStatus.from_json(first("check", connection_config).to_json).to_multiwoven_message
    rescue StandardError => e
      failure_status(e)
    end

    def discover(connection_config = nil)
      Catalog.from_json(first("discover", connection_config || {}).to_json).to_multiwoven_message
    rescue StandardError => e
      handle_exception(e, { context: "OPENAI COMPATIBLE:DISCOVER:EXCEPTION", type: "error" })
    end

    # Returns the records, or yields each as it arrives if the connection streams; an error is a log message.
    def read(sync_config)
      return [] if sync_config.offset.to_i.positive? # everything came with the first page

      connection = sync_config.source.connection_specification.with_indifferent_access
      records = []
      each_record(connection, sync_config.model.query, sync_config.model.query_type) do |record|
        connection[:is_stream] && block_given? ? yield([record]) : records << record
      end
      records
    rescue StandardError => e
      handle_exception(e, { context: "OPENAI COMPATIBLE:READ:EXCEPTION", type: "error" })
    end

    private

    # The server calls this to try a model out. It shows what is raised, and expects records otherwise.
    def run_model(connection_config, payload)
      whole = connection_config.with_indifferent_access.merge(is_stream: false)
      enum_for(:each_record, whole, payload.to_json, "ai_ml").to_a
    end

    def each_record(connection, query, query_type)
      run("read", connection, { query: query, query_type: query_type }) do |message|
        yield RecordMessage.new(message["record"].transform_keys(&:to_sym)).to_multiwoven_message
      end
    end

    def first(...) = enum_for(:run, ...).first.then { |message| message[message["type"]] }

    # Secrets go through a pipe, never to a file or an argument. An `input` would be a file of this server.
    def run(verb, connection = {}, model = {})
      connection = connection.with_indifferent_access.except(:input)
      arguments = [*COMMAND, verb, "--sync-config", "/dev/stdin"]
      Open3.popen2(ENVIRONMENT, *arguments, unsetenv_others: true) do |stdin, stdout, process|
        stdin.write({ source: { connection_specification: connection }, model: model }.to_json)
        stdin.close
        error = "#{COMMAND.first} failed: see the server's log"
        stdout.each_line do |line|
          message = JSON.parse(line)
          message["type"] == "log" ? error = message["log"]["message"] : yield(message)
        end
        raise error unless process.value.success?
      end
    end
  end
end
